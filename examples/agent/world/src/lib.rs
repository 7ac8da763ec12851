//! What the agent talks to, as real HTTP servers on loopback: a shop that drops repeated requests by
//! their idempotency key, and a model that answers from a recording in the format of OpenAI's
//! chat-completions API. Both keep count of what they were asked.
//!
//! It plays the part of the world: a process of its own, which outlives the machines of the agent.

mod model;
mod shop;

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::Context;
use axum::Router;
use axum::http::StatusCode;
use tokio::sync::oneshot;

pub use model::{Asked, Recording};
pub use shop::Effect;

/// A ticket from its first mail to its end, and the model's part in it.
pub const BROKEN_LAMPS: &str = include_str!("../../recordings/broken-lamps.json");

/// The shop and the model. They end when this is dropped.
pub struct World {
    state: Shared,
    shop: SocketAddr,
    model: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Where the servers listen; port 0 is any free one.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// The shop.
    pub shop: SocketAddr,
    /// The model.
    pub model: SocketAddr,
}

impl Default for Addresses {
    fn default() -> Addresses {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Addresses { shop: any, model: any }
    }
}

impl World {
    /// Opens a shop with its first stock, and a model that answers from a recording.
    ///
    /// # Errors
    /// If an address is taken, or a thread does not start.
    pub fn open(recording: Recording, at: Addresses) -> anyhow::Result<World> {
        let state = Shared(Arc::new(Mutex::new(State {
            shop: shop::Shop::default(),
            model: model::RecordedModel::new(recording),
            faults: BTreeMap::new(),
        })));
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (shop_listener, shop) = listen(at.shop)?;
        let (model_listener, model) = listen(at.model)?;
        let routers = (shop::router(state.clone()), model::router(state.clone()));
        // A thread of its own: whoever opens the world may be inside a runtime.
        let serve = move || {
            runtime.block_on(async move {
                tokio::select! {
                    _ = serve(shop_listener, routers.0) => {}
                    _ = serve(model_listener, routers.1) => {}
                    _ = ended => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("agent-world".to_owned()).spawn(serve)?;
        Ok(World { state, shop, model, end: Some(end), thread: Some(thread) })
    }

    /// The shop, for `SHOP_URL`.
    pub fn shop_url(&self) -> String {
        format!("http://{}", self.shop)
    }

    /// The model, for `OPENAI_BASE_URL`.
    pub fn model_url(&self) -> String {
        format!("http://{}/v1", self.model)
    }

    /// What the shop did, in the order in which it did it.
    pub fn effects(&self) -> Vec<Effect> {
        self.state.lock().shop.effects()
    }

    /// How many of an article are free.
    pub fn stock(&self, sku: &str) -> u64 {
        self.state.lock().shop.free(sku)
    }

    /// What the model was asked, and how it replied.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().model.asked()
    }

    /// Lets something go wrong with the next request to the `model`, or to a path of the shop, such as
    /// `holds`. Several faults follow one another.
    pub fn fails_next(&self, at: &str, fault: Fault) {
        self.state.lock().faults.entry(at.to_owned()).or_default().push_back(fault);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // It panicked, if it did, where its own message was printed.
            let _ = thread.join();
        }
    }
}

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is answered with this status, and has no effect.
    Status(u16),
    /// It has its effect, and the reply is lost: 503 comes instead.
    ReplyLost,
}

impl Fault {
    fn status(self) -> StatusCode {
        match self {
            Fault::Status(status) => {
                StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
            Fault::ReplyLost => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// What both servers work on.
#[derive(Clone)]
struct Shared(Arc<Mutex<State>>);

struct State {
    shop: shop::Shop,
    model: model::RecordedModel,
    faults: BTreeMap<String, VecDeque<Fault>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fault(&mut self, at: &str) -> Option<Fault> {
        self.faults.get_mut(at)?.pop_front()
    }
}

fn listen(address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).with_context(|| format!("listen on {address}"))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Ends only if it cannot accept connections, and then its clients say so.
async fn serve(listener: TcpListener, router: Router) -> std::io::Result<()> {
    axum::serve(tokio::net::TcpListener::from_std(listener)?, router).await
}
