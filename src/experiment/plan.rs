//! The order of the stages: each after the one that it takes its weights from.

use super::Stage;
use super::defaults::Conflict;

/// The stages to run, as indices: each after the stage it depends on, else in the file's order. `only` names the
/// stages wanted, which brings in what they depend on; empty: all.
///
/// # Errors
/// A name that is no stage, or stages that wait for each other.
pub(super) fn plan(stages: &[Stage], only: &[String]) -> Result<Vec<usize>, Conflict> {
    let find = |name: &str| stages.iter().position(|stage| *stage.name == *name);
    let known = || stages.iter().map(|stage| &*stage.name).collect::<Vec<_>>().join(", ");
    let mut wanted = Vec::new();
    for name in only {
        let conflict = || Conflict { about: name.clone(), message: format!("no stage {name}; there are: {}", known()) };
        wanted.push(find(name).ok_or_else(conflict)?);
    }
    if only.is_empty() {
        wanted = (0..stages.len()).collect();
    }
    wanted.sort_unstable();
    let mut order = Vec::new();
    for target in wanted {
        // The chain from the target back to a stage that is planned, or that needs none.
        let mut chain = Vec::new();
        let mut next = Some(target);
        while let Some(index) = next.filter(|index| !order.contains(index)) {
            let stage = &stages[index];
            if chain.contains(&index) {
                let message = format!("stage {}: waits for itself through `from`", stage.name);
                return Err(Conflict { about: stage.name.to_string(), message });
            }
            chain.push(index);
            next = match &stage.from {
                None => None,
                Some(from) => Some(find(from).ok_or_else(|| Conflict {
                    about: from.to_string(),
                    message: format!("stage {}: from: no stage {from}; there are: {}", stage.name, known()),
                })?),
            };
        }
        order.extend(chain.into_iter().rev());
    }
    Ok(order)
}
