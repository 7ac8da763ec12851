//! `select!`, whose order is a function of the code.

/// Waits for the first of several branches, in the order in which they are written, and drops the
/// others: a timer goes, a child is cancelled, and a step has its token cancelled.
///
/// The body of a step that lost is not dropped at once, as a plain future would be: it may be in
/// the middle of an effect. Its [token](crate::Step::cancellation) tells it to return, for which it
/// has the [grace](crate::App::grace). Then an async body is dropped at its next await. A
/// `.blocking()` body cannot be dropped: one that does not look at its token runs to its end, with
/// its effects. Whatever either returns is ignored. The same holds wherever a step is dropped.
///
/// This is `tokio::select!` with `biased;`. Without that, tokio picks branches at random, and a
/// replay would pick others.
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
