//! The types of what a workflow is sent from outside, as far as its code has asked for them in this
//! process: so a value of another type is refused when it is sent, instead of blocking the run that
//! takes it.

use std::any::TypeId;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use serde::de::DeserializeOwned;
use tidemill_model::{Json, OpName};

/// Says why a value is none of a type.
type Reads = fn(&Json) -> Result<(), String>;

/// The types of a workflow's signals and promises.
#[derive(Default)]
pub(crate) struct OutsideTypes {
    pub(crate) signals: TypesByName,
    pub(crate) promises: TypesByName,
}

/// Types by the names under which the code waits. A name may have several: each wait has its own.
#[derive(Default)]
pub(crate) struct TypesByName(Mutex<FxHashMap<OpName, Vec<(TypeId, Reads)>>>);

impl TypesByName {
    /// Notes that the code waits for a `T` under this name.
    pub(crate) fn note<T: DeserializeOwned + 'static>(&self, name: &OpName) {
        let mut types = self.lock();
        let of_name = match types.get_mut(name) {
            Some(of_name) => of_name,
            None => types.entry(name.clone()).or_default(),
        };
        let id = TypeId::of::<T>();
        if of_name.iter().all(|(known, _)| *known != id) {
            of_name.push((id, |json| json.decode::<T>().map(drop).map_err(|e| e.to_string())));
        }
    }

    /// Whether a wait of this name could read the value; yes if none is known.
    ///
    /// # Errors
    /// Why the wait that is known cannot, of several the first.
    pub(crate) fn check(&self, name: &OpName, value: &Json) -> Result<(), String> {
        let reads: Vec<Reads> = match self.lock().get(name) {
            Some(of_name) => of_name.iter().map(|(_, reads)| *reads).collect(),
            None => return Ok(()),
        };
        // Outside the lock, because it runs the author's code.
        let mut whys = reads.iter().map_while(|reads| reads(value).err());
        let first = whys.next();
        match first {
            Some(why) if whys.count() + 1 == reads.len() => Err(why),
            Some(_) | None => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<OpName, Vec<(TypeId, Reads)>>> {
        // Nothing that runs under this lock panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_refused_only_if_no_known_wait_of_its_name_reads_it() {
        let (types, name) = (TypesByName::default(), OpName::new("go").unwrap());
        let json = |text| Json::parse(text).unwrap();
        assert!(types.check(&name, &json(r#""x""#)).is_ok(), "nothing is known");
        types.note::<bool>(&name);
        types.note::<bool>(&name);
        assert!(types.check(&name, &json("true")).is_ok());
        assert!(types.check(&name, &json(r#""x""#)).unwrap_err().contains("expected a boolean"));
        types.note::<String>(&name);
        assert!(
            types.check(&name, &json(r#""x""#)).is_ok() && types.check(&name, &json("7")).is_err()
        );
        assert!(types.check(&OpName::new("stop").unwrap(), &json("7")).is_ok());
    }
}
