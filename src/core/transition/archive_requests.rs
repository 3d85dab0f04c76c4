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
