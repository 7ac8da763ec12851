//! `select!`, which polls its branches in the order of the code.

/// Waits for the first of several branches, polled in the order in which they are written, and
/// drops the others: a dropped timer is forgotten, a dropped child is cancelled, and a dropped step
/// has its token cancelled.
///
/// The body of a dropped step does not stop at once, as a plain future would: it may be in the
/// middle of an effect. Its [token](crate::Step::cancellation) asks it to return within the
/// [grace](crate::App::grace). After the grace, an async body is dropped at its next await. A
/// `.blocking()` body cannot be dropped: if it does not check its token, it runs to its end, with
/// its effects. The runtime ignores whatever either returns. The same holds wherever a workflow
/// drops a step.
///
/// This is `tokio::select!` with `biased;`. Without it, tokio polls branches in random order, and a
/// replay could take another branch.
///
/// ```
/// use std::time::Duration;
/// use tidemill::{Ctx, Result};
///
/// async fn ask(question: String) -> Result<String> {
///     Ok(format!("{question}? yes"))
/// }
///
/// async fn first_answer(ctx: Ctx, question: String) -> Result<String> {
///     tidemill::select! {
///         answer = ctx.run("ask", move || ask(question)) => Ok(answer?),
///         _ = ctx.sleep(Duration::from_secs(30)) => Ok("no answer".to_string()),
///     }
/// }
/// # let _ = tidemill::App::new("doc").workflow("first_answer", first_answer);
/// ```
#[macro_export]
macro_rules! select {
    ($($branches:tt)*) => {
        $crate::__private::tokio::select! { biased; $($branches)* }
    };
}
