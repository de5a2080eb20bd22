//! The first thing in which two experiments differ.

use serde_json::Value;

use super::Experiment;
use crate::text::visible;

impl Experiment {
    /// What `other` has differently, on one line: "stages.2.epochs is 5 there, 50 here". None if they are the same.
    pub fn first_difference(&self, other: &Experiment) -> Option<String> {
        let [there, here] = [other, self].map(|of| serde_json::to_value(of).expect("an experiment becomes JSON"));
        let (at, there, here) = difference("", &there, &here)?;
        Some(visible(&format!("{at} is {there} there, {here} here")).into_owned())
    }
}

/// Where two values differ first, in the order of `b`'s keys: the path, and both values; "not given" where one has none.
fn difference(path: &str, a: &Value, b: &Value) -> Option<(String, String, String)> {
    let side = |value: Option<&Value>| value.map_or("not given".to_owned(), Value::to_string);
    let below = |key: String| if path.is_empty() { key } else { format!("{path}.{key}") };
    let differ = |key: String, a: Option<&Value>, b: Option<&Value>| match (a, b) {
        (Some(a), Some(b)) => difference(&below(key), a, b),
        (a, b) => Some((below(key), side(a), side(b))),
    };
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let more = a.keys().filter(|key| !b.contains_key(*key));
            b.keys().chain(more).find_map(|key| differ(key.clone(), a.get(key), b.get(key)))
        }
        (Value::Array(a), Value::Array(b)) => {
            (0..a.len().max(b.len())).find_map(|i| differ((i + 1).to_string(), a.get(i), b.get(i)))
        }
        (a, b) => (a != b).then(|| (path.to_owned(), side(Some(a)), side(Some(b)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stages count from 1.
    #[test]
    fn the_first_difference_is_named_with_both_values() {
        let there = Experiment::quick();
        let of = |change: &dyn Fn(&mut Experiment)| {
            let mut here = Experiment::quick();
            change(&mut here);
            here.first_difference(&there)
        };
        assert_eq!(of(&|_| {}), None);
        let epochs = there.stages[1].epochs.unwrap().0;
        let expected = format!("stages.2.epochs is {epochs} there, {} here", epochs + 1);
        assert_eq!(of(&|e| e.stages[1].epochs.as_mut().unwrap().0 += 1), Some(expected));
        assert_eq!(of(&|e| e.seed.0 = 9).unwrap(), "seed is 0 there, 9 here");
        assert_eq!(of(&|e| e.seeds.0 = 2).unwrap(), "seeds is not given there, 2 here");
        assert!(of(&|e| drop(e.stages.pop())).unwrap().ends_with(" there, not given here"));
    }
}
