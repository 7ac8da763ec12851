//! What is measured for which arguments, and how it is shown.

use std::path::Path;

use serde::Serialize;

use crate::arguments::Arguments;
use crate::children::Children;
use crate::order::{Order, Work};
use crate::waiting::Waiting;
use crate::{rounds, table, waiting};

/// Measures what is asked for and prints it.
pub(crate) fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(runs) = arguments.waiting {
        let folder = new_folder(&arguments.dir)?;
        waiting::prepare(folder.path(), runs)?;
        let order = Order { folder: folder.path().to_owned(), work: Work::Waiting { runs } };
        show(arguments, &order.run::<Waiting>()?, table::print_waiting)
    } else if let Some(runs) = arguments.children {
        let folder = new_folder(&arguments.dir)?;
        let order = Order { folder: folder.path().to_owned(), work: Work::Children { runs } };
        show(arguments, &order.run::<Children>()?, table::print_children)
    } else {
        show(arguments, &rounds::measure(arguments)?, |rows| table::print_rows(rows))
    }
}

/// A folder that is deleted when it is dropped.
pub(crate) fn new_folder(within: &Path) -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("bench-").tempdir_in(within)
}

fn show<T: Serialize>(
    arguments: &Arguments,
    measured: &T,
    print: impl Fn(&T),
) -> anyhow::Result<()> {
    match arguments.json {
        true => println!("{}", serde_json::to_string_pretty(measured)?),
        false => print(measured),
    }
    Ok(())
}
