//! Requests about archives: which one a restore begins from, and the removal of a rescue ref.
//! Requests to unlink directories in the trash are in `retention`.

use crate::decision::Decision;
use crate::event::{Actor, RescueDropRequested};
use crate::fault::{Code, Fault};
use crate::id::EnvironmentId;
use crate::model::archive::ArchivedIncarnation;
use crate::model::step::ArchiveStep as Step;
use crate::state::State;

impl State {
    /// Decides to remove a rescue's ref.
    pub(crate) fn decide_drop_rescue(
        &self,
        id: &EnvironmentId,
        incarnation: u32,
        actor: Actor,
    ) -> Decision {
        let found = self.archive_of(id, incarnation).filter(|r| r.rescue.is_some());
        let Some(archive) = found else {
            let message = format!("there is no rescue ref of {id}, incarnation {incarnation}");
            return Err(Fault::new(
                Code::NotFound,
                message,
                "run `groundskeeper rescue ls` to list rescue refs",
            ));
        };
        match archive.owed.as_ref().map(|o| o.step) {
            Some(Step::DropRescue) => return Ok(Vec::new()),
            _ if archive.restoring.is_some() || archive.purge.is_some() => {
                return Err(busy(archive));
            }
            _ => {}
        }
        // Only the rescue says what it lacks: without it, the directory would go by age.
        if archive.trash.is_some() && archive.rescue.as_ref().is_some_and(|r| !r.lacks.is_empty()) {
            return Err(last_copy(archive));
        }
        let environment = id.clone();
        Ok(vec![RescueDropRequested { environment, incarnation, actor }.into()])
    }

    /// Returns the archive that a restore can begin from.
    pub(crate) fn restorable(
        &self,
        id: &EnvironmentId,
        incarnation: Option<u32>,
    ) -> Result<&ArchivedIncarnation, Fault> {
        let lives = self.archives.get(id);
        let found = match incarnation {
            Some(n) => lives.and_then(|l| l.get(&n)),
            None => lives.and_then(|l| l.values().next_back()),
        };
        let Some(archive) = found else {
            let message = format!("there is no trash entry or rescue ref of {id} to restore");
            let hint =
                "list what can be restored: `groundskeeper trash ls`, `groundskeeper rescue ls`";
            return Err(Fault::new(Code::EnvironmentNotFound, message, hint));
        };
        let from = archive.restore_from();
        if from.trash.is_none() && from.rescue.is_none() || archive.restoring.is_some() {
            return Err(busy(archive));
        }
        Ok(archive)
    }
}

fn busy(archive: &ArchivedIncarnation) -> Fault {
    let (id, life) = (&archive.id, archive.incarnation);
    let message = match (&archive.restoring, &archive.purge) {
        (Some(_), _) => format!("incarnation {life} of {id} is being restored"),
        (None, None) => format!("another operation on incarnation {life} of {id} is in progress"),
        (None, Some(why)) => {
            format!("the trash entry of incarnation {life} of {id} is being unlinked ({why})")
        }
    };
    Fault::new(Code::EnvironmentBusy, message, "retry when that operation has ended")
}

fn last_copy(archive: &ArchivedIncarnation) -> Fault {
    let (id, life) = (&archive.id, archive.incarnation);
    let message = format!(
        "the rescue of {id} (incarnation {life}) lists content that only its trash entry holds"
    );
    let hint = format!(
        "run `groundskeeper restore {id}` to restore it, or `groundskeeper trash empty {id} \
         --lose` to unlink that content permanently, then drop the rescue"
    );
    Fault::new(Code::UnsafeToRemove, message, hint).with_evidence(archive.is_last_copy_of())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seq;
    use crate::event::{Plan, Rescue};
    use crate::id::Time;
    use crate::model::environment::Environment;
    use crate::model::step::At;

    /// The rescue knows what only the trash holds, so it goes after the trash.
    #[test]
    fn rescue_of_last_copy_is_not_dropped() {
        let at = At { seq: Seq(1), time: Time(1) };
        let id = EnvironmentId::parse("demo").expect("an id");
        let mut env = Environment::begin(at, &id, 1, &Plan::default());
        let lacks = vec!["ignored: .env".to_owned()];
        env.teardown.get_or_insert_default().rescue =
            Some(Rescue { reference: Some("refs/r".into()), lacks, ..Rescue::default() });
        for (trash, is_refused) in [(Some("/trash/demo.1".into()), true), (None, false)] {
            let mut state = State::default();
            state.keep_archive(ArchivedIncarnation::of(&env, at, trash));
            let decided = state.decide_drop_rescue(&id, 1, Actor::default());
            let code = decided.as_ref().err().map(|fault| fault.code);
            assert_eq!(code, is_refused.then_some(Code::UnsafeToRemove), "{decided:?}");
        }
    }
}
