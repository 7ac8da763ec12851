//! `select!`, whose order is a function of the code.

/// Waits for the first of several branches, in the order in which they are written, and drops the
/// others: a step that loses has its token cancelled, a timer goes, a child is cancelled.
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
