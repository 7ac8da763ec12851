//! The app's door: those who ask to open the file, the one that may, and what it is told.

use std::collections::HashMap;
use std::sync::Arc;

use tidemill_eventlog::host;
use tidemill_model::{
    AttachHello, AttachRequest, BootTime, LeaseLine, SessionId, SocketError, SocketErrorKind,
};

use super::socket::{AttachReply, Attachment};
use crate::context::Context;
use crate::error::Error;
use crate::failpoint;
use crate::node_record::NodeRecord;
use crate::supervise::{AttachAsked, AttachRefusal, Input, Post};

/// Who is at the door, and who is in.
pub(crate) struct AppDoor {
    context: Arc<Context>,
    record: Arc<NodeRecord>,
    attaching: HashMap<SessionId, AttachReply>,
    attachment: Option<Attachment>,
    /// What the app was told last.
    told: Option<ToldApp>,
}

/// What the app was told last.
#[derive(Debug, PartialEq, Eq)]
struct ToldApp {
    line: LeaseLine,
    /// Since when something waits, if that is long.
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

    /// Lets an app in, with this line first; whether it was still there.
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
                format!("process {pid} has the file: end that one first"),
            ),
            AttachRefusal::NotReady => {
                (SocketErrorKind::Unavailable, "the node is not ready yet".to_owned())
            }
            AttachRefusal::Leaving => {
                (SocketErrorKind::Unavailable, "the node is being given up".to_owned())
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

    /// Tells the app what changed since the last line. A lag grows with the app's own clock, so it
    /// is told only when it begins to matter, begins anew, or is over: `late` is since when it
    /// matters.
    pub(crate) fn tell(&mut self, line: LeaseLine, late: Option<BootTime>) {
        let Some(attachment) = &self.attachment else { return };
        let told = ToldApp { line: LeaseLine { lag_ms: None, ..line.clone() }, late };
        if self.told.as_ref() != Some(&told) {
            attachment.tell(line);
            self.told = Some(told);
        }
    }
}
