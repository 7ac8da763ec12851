//! The app's door: the apps that ask to open the file, the app that may, and the lines it gets.

use std::collections::HashMap;
use std::sync::Arc;

use tidemill_eventlog::host;
use tidemill_model::{
    AttachHello, AttachRequest, BootTime, FiguresRequest, LeaseLine, SessionId, SocketError,
    SocketErrorKind,
};

use super::socket::{AttachReply, Attachment};
use crate::context::Context;
use crate::error::Error;
use crate::failpoint;
use crate::node_record::NodeRecord;
use crate::supervise::{AttachAsked, AttachRefusal, Input, Post};

/// The waiting requests to attach, and the attached app.
pub(crate) struct AppDoor {
    context: Arc<Context>,
    record: Arc<NodeRecord>,
    attaching: HashMap<SessionId, AttachReply>,
    attachment: Option<Attachment>,
    /// The last line that the app got; `None` before the first.
    told: Option<ToldApp>,
}

/// The last line that the app got.
#[derive(Debug, PartialEq, Eq)]
struct ToldApp {
    line: LeaseLine,
    /// When the oldest unshipped commit began to wait, if that is long ago.
    late: Option<BootTime>,
}

impl AppDoor {
    pub(crate) fn new(context: &Arc<Context>, record: &Arc<NodeRecord>) -> AppDoor {
        let (context, record) = (Arc::clone(context), Arc::clone(record));
        AppDoor { context, record, attaching: HashMap::new(), attachment: None, told: None }
    }

    /// An app asks to open the file.
    pub(crate) fn asked(
        &mut self,
        request: AttachRequest,
        peer_pid: Option<u32>,
        reply: AttachReply,
        post: &mut Post,
    ) -> Result<(), Error> {
        let session = SessionId::from_random(host::random()?);
        self.attaching.insert(session.clone(), reply);
        let pid = peer_pid.unwrap_or(request.pid);
        let AttachRequest { boot, epoch, .. } = request;
        post.tell(Input::Attach(AttachAsked { session, pid, boot, epoch }));
        Ok(())
    }

    /// An app's stream ended.
    pub(crate) fn broken(&mut self, session: SessionId, post: &mut Post) {
        if self.attachment.as_ref().is_some_and(|held| *held.session() == session) {
            self.attachment = None;
        }
        post.tell(match failpoint::cure_is_off() {
            false => Input::StreamClosed(session),
            true => Input::Detach(session),
        });
    }

    /// Lets an app in, with `line` as its first line; returns whether it was still connected.
    pub(crate) fn accept(&mut self, session: SessionId, line: LeaseLine, post: &mut Post) -> bool {
        let Some(reply) = self.attaching.remove(&session) else { return false };
        let state = self.record.state();
        let hello = AttachHello {
            session: session.clone(),
            node: state.node,
            epoch: self.record.epoch(),
            instance: state.instance,
            log_version: Some(tidemill_eventlog::LOG_VERSION),
            fleet: Some(self.context.settings.fleet.fleet().clone()),
        };
        self.attachment = reply.accept(hello, line);
        if self.attachment.is_none() {
            // It has gone, and has opened nothing.
            post.tell(Input::Detach(session));
            return false;
        }
        tracing::info!("an app is attached");
        self.record.let_app_in();
        true
    }

    pub(crate) fn refuse(&mut self, session: &SessionId, refusal: AttachRefusal) {
        let Some(reply) = self.attaching.remove(session) else { return };
        let (kind, message) = match refusal {
            AttachRefusal::Taken { pid } => (
                SocketErrorKind::Conflict,
                format!("process {pid} has the file: end that process first"),
            ),
            AttachRefusal::NotReady => {
                (SocketErrorKind::Unavailable, "the node is not ready yet".to_owned())
            }
            AttachRefusal::Leaving => {
                (SocketErrorKind::Unavailable, "the sidecar is releasing the node".to_owned())
            }
            AttachRefusal::OtherBoot => (
                SocketErrorKind::Invalid,
                "the app and its sidecar must run under one kernel".to_owned(),
            ),
            AttachRefusal::Fenced => {
                (SocketErrorKind::Fenced, "the node's epoch is another now".to_owned())
            }
        };
        reply.refuse(SocketError { kind, message });
    }

    /// Notes what the attached app's runs do, for the next renewal of the lease.
    pub(crate) fn figures(&self, told: FiguresRequest) -> Result<(), SocketError> {
        if self.attachment.as_ref().is_none_or(|held| *held.session() != told.session) {
            let message = "this app is not attached any more".to_owned();
            return Err(SocketError { kind: SocketErrorKind::Conflict, message });
        }
        self.context.status().runs = Some(told.runs.bounded());
        Ok(())
    }

    /// Sends the app a line if something changed since the last one. The app counts a growing lag
    /// by its own clock, so a lag causes a line only when it becomes long, begins anew, or is over.
    /// `late` is the moment since which commits have waited too long.
    pub(crate) fn tell(&mut self, line: LeaseLine, late: Option<BootTime>) {
        let Some(attachment) = &self.attachment else { return };
        let told = ToldApp { line: LeaseLine { lag_ms: None, ..line.clone() }, late };
        if self.told.as_ref() != Some(&told) {
            attachment.tell(line);
            self.told = Some(told);
        }
    }
}

#[cfg(test)]
mod tests;
