//! What names a workflow where one is started: its function, or the text that it is registered
//! under.

use std::any::TypeId;
use std::future::Future;
use std::marker::PhantomData;

use rustc_hash::FxHashMap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_model::OpName;

use super::ctx::Ctx;
use super::result::Result;

/// A workflow that takes an `In` and returns an `Out`: its function, or its name as a text.
///
/// A function is known by its type, so the compiler checks input and output; the program must have
/// registered it with [`App::workflow`](crate::App::workflow). A text may be anything until the run
/// starts. `By` only tells the two apart, and is always inferred.
#[diagnostic::on_unimplemented(
    message = "this is no workflow that takes `{In}` and returns `{Out}`",
    note = "pass the workflow's function with the input that it takes, or its name as a text"
)]
pub trait WorkflowRef<In, Out, By> {
    /// The name under which the program registered it, or why there is none.
    #[doc(hidden)]
    fn registered(&self, names: &WorkflowNames) -> Result<String, String>;
}

/// A workflow that takes an `In`, whatever it returns: its function, or its name as a text. `By` only
/// tells the two apart, and is always inferred.
#[diagnostic::on_unimplemented(
    message = "this is no workflow that takes `{In}`",
    note = "pass the workflow's function with the input that it takes, or its name as a text"
)]
pub trait SpawnRef<In, By> {
    /// The name under which the program registered it, or why there is none.
    #[doc(hidden)]
    fn registered_as(&self, names: &WorkflowNames) -> Result<String, String>;
}

/// A workflow named by a text.
#[derive(Debug)]
pub struct ByName;

/// A workflow named by its function.
#[derive(Debug)]
pub struct ByFunction<Fut, E>(PhantomData<fn() -> (Fut, E)>);

macro_rules! by_name {
    ($($text:ty),*) => {$(
        impl<In: Serialize, Out: DeserializeOwned> WorkflowRef<In, Out, ByName> for $text {
            fn registered(&self, _: &WorkflowNames) -> Result<String, String> {
                Ok(self.to_string())
            }
        }

        impl<In: Serialize> SpawnRef<In, ByName> for $text {
            fn registered_as(&self, _: &WorkflowNames) -> Result<String, String> {
                Ok(self.to_string())
            }
        }
    )*};
}
by_name!(&str, &String, String);

impl<F, In, Fut, Out, E> WorkflowRef<In, Out, ByFunction<Fut, E>> for F
where
    F: Fn(Ctx, In) -> Fut + 'static,
    In: Serialize,
    Fut: Future<Output = Result<Out, E>>,
    Out: DeserializeOwned,
{
    fn registered(&self, names: &WorkflowNames) -> Result<String, String> {
        names.of::<F>()
    }
}

impl<F, In, Fut, Out, E> SpawnRef<In, ByFunction<Fut, E>> for F
where
    F: Fn(Ctx, In) -> Fut + 'static,
    In: Serialize,
    Fut: Future<Output = Result<Out, E>>,
{
    fn registered_as(&self, names: &WorkflowNames) -> Result<String, String> {
        names.of::<F>()
    }
}

/// The names of a program's workflows, by the types of their functions.
#[derive(Debug, Clone, Default)]
pub struct WorkflowNames(FxHashMap<TypeId, Vec<OpName>>);

impl WorkflowNames {
    /// Notes that `F` is registered under a name.
    pub(crate) fn add<F: 'static>(&mut self, name: &OpName) {
        self.0.entry(TypeId::of::<F>()).or_default().push(name.clone());
    }

    fn of<F: 'static>(&self) -> Result<String, String> {
        let function = std::any::type_name::<F>();
        match self.0.get(&TypeId::of::<F>()).map_or(&[][..], Vec::as_slice) {
            [] => {
                Err(format!("workflow function `{function}`, which this program does not register"))
            }
            [name] => Ok(name.to_string()),
            [first, ..] => Err(format!(
                "workflow function `{function}`, which is registered under `{first}` and other \
                 names: name the one that is meant"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn square(_: Ctx, n: u64) -> Result<u64> {
        Ok(n * n)
    }

    async fn other(_: Ctx, _: ()) -> Result<()> {
        Ok(())
    }

    #[expect(clippy::needless_pass_by_value, reason = "given as a call of `child` gives it")]
    fn found<W, In, Out, By>(workflow: W, _: In, names: &WorkflowNames) -> Result<String, String>
    where
        W: WorkflowRef<In, Out, By>,
    {
        workflow.registered(names)
    }

    fn register<F: 'static>(names: &mut WorkflowNames, _: F, name: &str) {
        names.add::<F>(&OpName::new(name).unwrap());
    }

    #[test]
    fn a_function_stands_for_the_one_name_it_is_registered_under() {
        let mut names = WorkflowNames::default();
        register(&mut names, square, "squared");
        assert_eq!(found(square, 3, &names).unwrap(), "squared");
        let missing = found(other, (), &names).unwrap_err();
        assert!(missing.ends_with("tests::other`, which this program does not register"));
        register(&mut names, square, "again");
        let twice = found(square, 3, &names).unwrap_err();
        assert!(twice.contains("registered under `squared` and other names"), "{twice}");
    }
}
