//! The benchmark: what the engine does, beside what the disk and a bare skeleton do in the same
//! minute on the same machine.

mod arguments;
mod cancel;
mod children;
mod engine;
mod fan_out;
mod fork;
mod log;
mod measure;
mod modes;
mod observer;
mod order;
mod prepared;
mod processors;
mod raw;
mod replay;
mod rounds;
mod signals;
mod skeleton;
mod slow_sync;
mod spread;
mod table;
mod waiting;
mod wal;

use clap::Parser;

use arguments::Arguments;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.serve_app {
        return observer::serve_app();
    }
    match &arguments.order {
        Some(order) => order.perform(),
        None => modes::measure(&arguments),
    }
}
