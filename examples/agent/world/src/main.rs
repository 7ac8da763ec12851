//! Opens the world of the agent on fixed ports, for a person who plays with it by hand.

use std::net::SocketAddr;
use std::path::PathBuf;

use agent_world::{Addresses, BROKEN_LAMPS, Recording, World};
use anyhow::{Context, bail};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let recording = match (arguments.next(), arguments.next()) {
        (None, _) => BROKEN_LAMPS.to_owned(),
        (Some(path), None) if !path.to_string_lossy().starts_with('-') => {
            let context = || format!("read {}", path.display());
            std::fs::read_to_string(&path).with_context(context)?
        }
        _ => bail!("usage: agent-world [RECORDING]"),
    };
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let addresses = Addresses { shop: at(7430), model: at(7431) };
    let world = World::open(Recording::read(&recording)?, addresses)?;
    println!(
        "A shop, and a model with recorded answers. In another shell:\n\n\
         export SHOP_URL={} OPENAI_BASE_URL={} OPENAI_MODEL=recorded\n\n\
         Without OPENAI_BASE_URL, and with a key in OPENAI_API_KEY, the model is a live one.\n\
         Ctrl-C ends this, and the shop forgets what it did.",
        world.shop_url(),
        world.model_url()
    );
    loop {
        std::thread::park();
    }
}
