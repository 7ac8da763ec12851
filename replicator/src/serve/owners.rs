//! The owners of a ready node. Each has its own fields, performs its own effects and takes their
//! results; this file only holds them together.

use std::sync::Arc;

use super::epoch::EpochKeeper;
use super::file::FileKeeper;
use super::routes::Owners;
use crate::app::cmd::{CmdSlot, signal_app};
use crate::app::door::AppDoor;
use crate::app::socket::AppSocket;
use crate::context::Context;
use crate::error::Error;
use crate::node_record::NodeRecord;
use crate::ship::litestream::slot::LitestreamSlot;
use crate::ship::shipper::Shipper;
use crate::start::run::ReadyNode;
use crate::supervise::{
    AppEffect, BarriersEffect, EpochEffect, FileEffect, LitestreamEffect, Post,
};

/// All owners of a ready node.
pub(super) struct NodeOwners {
    pub(super) context: Arc<Context>,
    pub(super) record: Arc<NodeRecord>,
    pub(super) litestream: LitestreamSlot,
    pub(super) shipping: Shipper,
    pub(super) door: AppDoor,
    pub(super) cmd: CmdSlot,
    pub(super) file: FileKeeper,
    pub(super) epoch: EpochKeeper,
}

impl NodeOwners {
    pub(super) fn new(context: Arc<Context>, ready: ReadyNode, socket: &AppSocket) -> NodeOwners {
        let ReadyNode { epoch, state, lease, app_lock, floor, proven, from: _ } = ready;
        // The supervisor takes the lock again at once, as its own first step.
        drop(app_lock);
        let record = Arc::new(NodeRecord::new(&context, epoch, state));
        NodeOwners {
            litestream: LitestreamSlot::new(&context, &record),
            shipping: Shipper::new(&context, &record, lease.judge(), floor),
            door: AppDoor::new(&context, &record),
            cmd: CmdSlot::new(&context, socket.path()),
            file: FileKeeper::new(&context, &record, proven),
            epoch: EpochKeeper::new(&context, &record, lease),
            record,
            context,
        }
    }

    /// Aborts the tasks of all owners, because the process ends.
    pub(super) async fn close(self) {
        self.shipping.close().await;
        self.cmd.close().await;
        self.file.close().await;
        self.epoch.close().await;
        self.litestream.close().await;
    }
}

impl Owners for NodeOwners {
    type Error = Error;

    fn litestream(&mut self, effect: LitestreamEffect, _: &mut Post) {
        self.litestream.perform(effect);
    }

    fn barriers(&mut self, effect: BarriersEffect, post: &mut Post) {
        self.shipping.perform(effect, post);
    }

    fn app(&mut self, effect: AppEffect, post: &mut Post) {
        match effect {
            AppEffect::Accept(session) => {
                let line = self.line();
                if self.door.accept(session, line, post) {
                    self.file.lock_settled();
                }
            }
            AppEffect::Refuse(session, refusal) => self.door.refuse(&session, refusal),
            AppEffect::StartCmd => self.cmd.start(post),
            AppEffect::SignalCmd(signal) => self.cmd.signal(signal),
            AppEffect::SignalApp(pid, signal) => signal_app(pid, signal),
            AppEffect::EndHungApp => self.cmd.end_hung_app(),
        }
    }

    fn file(&mut self, effect: FileEffect, post: &mut Post) -> Result<(), Error> {
        self.file.perform(effect, post)
    }

    fn epoch(&mut self, effect: EpochEffect, post: &mut Post) {
        self.epoch.perform(effect, post);
    }
}
