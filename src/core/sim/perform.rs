//! Performs the random actions of a history on the harness.

use std::time::Duration;

use crate::event::{
    EnvironmentLabeled, LeaseGranted, LivesForgotten, Plan, SweepRequested, TeardownOptions,
    WatcherGaveUp, Worktree,
};
use crate::model::live_set::LiveSet;
use crate::sim::actions::{Act, NAMES, destroy, name, request};
use crate::sim::harness::Harness;
use crate::{Adopt, Command, Event, Label, LeaseId, Nonce, Provision, Subject};

impl Harness {
    /// Returns a nonce that no incarnation had before.
    fn nonce(&self) -> Nonce {
        Nonce::parse(&format!("{:032x}", self.log.len())).expect("a nonce")
    }

    fn provision(&mut self, who: usize, plan: Plan, key: Option<u8>) {
        let (actor, request) = (crate::event::Actor::default(), request(key));
        let (environment, nonce, attributes) = (name(who), self.nonce(), None);
        let made =
            Command::Provision(Provision { environment, plan, actor, request, nonce, attributes });
        self.command(made);
    }

    pub(crate) fn act(&mut self, act: &Act) {
        match *act {
            Act::Provision { who, keep, key } => {
                let plan = Plan {
                    branch: format!("gk/{}", NAMES[who]),
                    keep_failed: keep,
                    ..Plan::default()
                };
                self.provision(who, plan, key);
            }
            Act::Destroy { who, force, key } => {
                self.command(destroy(who, force, key));
            }
            Act::Cancel { who } => {
                let actor = crate::event::Actor::default();
                self.command(Command::Cancel { environment: name(who), actor });
            }
            Act::Lease { who, lease, millis } => {
                let until = self.now.after(Duration::from_millis(u64::from(millis) + 1));
                self.command(Command::Lease(LeaseGranted {
                    environment: name(who),
                    lease: LeaseId::parse(&format!("l{lease}")).expect("a valid lease id"),
                    until,
                    purpose: "test".into(),
                    actor: crate::event::Actor::default(),
                    request: None,
                }));
            }
            Act::Release { lease } => {
                let lease = LeaseId::parse(&format!("l{lease}")).expect("a valid lease id");
                self.command(Command::Release { lease });
            }
            Act::Reconcile { mask, epoch, confirmed } => self.reconcile(mask, epoch, confirmed),
            Act::Crash { how_far } => self.crash(how_far),
            Act::Forget { most } => self.forget(most),
            Act::Flow { rounds } => (0..rounds).for_each(|_| self.flow()),
            _ => self.act_on_world(act),
        }
    }

    /// Forgets up to `most` finished lives, as a tick does when there are many.
    fn forget(&mut self, most: usize) {
        let mut lives = self.state.forgettable();
        lives.truncate(most);
        if !lives.is_empty() {
            self.append(vec![LivesForgotten { lives }.into()]);
        }
    }

    /// Performs an action on effects in flight or on the disk.
    fn act_on_world(&mut self, act: &Act) {
        match *act {
            Act::Start => self.start_owed(),
            Act::Work { who, steps } => {
                if let Some(subject) = self.nth_running(who) {
                    self.work(&subject, steps);
                }
            }
            Act::Finish { who, how } => {
                if let Some(subject) = self.nth_running(who) {
                    self.finish(&subject, how);
                }
            }
            Act::Repeat { who } => {
                if let Some(settled) = self.settled.values().nth(who).cloned() {
                    let accepted = self.command(Command::Settle(settled));
                    assert!(!accepted, "a stale settlement must be absorbed");
                }
            }
            Act::Wait { millis } => self.wait(Duration::from_millis(millis.into())),
            Act::Days { days } => self.wait(Duration::from_secs(u64::from(days) * 86_400)),
            Act::Dirty { who } => {
                if let Some(traces) = self.disk.get_mut(&name(who)).filter(|t| t.directory) {
                    self.made += 1;
                    traces.work.insert(self.made);
                }
            }
            Act::Build { who } => {
                let traces = self.disk.entry(name(who)).or_default();
                traces.built = traces.directory;
            }
            _ => self.act_on_archive(act),
        }
    }

    /// Checks that a live set removes nothing that is listed, leased, or adopted.
    fn reconcile(&mut self, mask: u8, epoch: u64, confirmed: bool) {
        let listed = (0..NAMES.len()).filter(|n| mask & (1 << n) != 0).map(name).collect();
        let known = self.state.seq();
        let set =
            LiveSet { server: "s".into(), epoch, live: listed, known, confirmed, by_hand: true };
        let before = self.state.clone();
        let report = before.reconcile(self.now, &set);
        let (options, actor) = (TeardownOptions::default(), crate::event::Actor::default());
        let first = self.log.len();
        self.command(Command::Reconcile { set: set.clone(), options, actor });
        for record in &self.log[first..] {
            if let Event::DestroyRequested(e) = &record.event {
                assert!(!set.live.contains(&e.environment) && !report.outdated && !report.held);
                assert!(before.leases_of(&e.environment, self.now).next().is_none());
                assert!(before.environment(&e.environment).is_some_and(|env| !env.adopted));
            }
        }
        let again = self.state.reconcile(self.now, &set);
        assert!(report.held || again.retired.is_empty(), "what is retired is on its way");
        assert!(report.held || again.healed.is_empty(), "what is healed is served");
    }

    fn act_on_archive(&mut self, act: &Act) {
        let actor = crate::event::Actor::default();
        let command = match *act {
            Act::Restore { who, life } => {
                let (environment, nonce) = (name(who), self.nonce());
                let (incarnation, branch, reuse_branch, request) = (life, None, false, None);
                Command::Restore(crate::Restore {
                    environment,
                    incarnation,
                    branch,
                    reuse_branch,
                    actor,
                    request,
                    nonce,
                })
            }
            Act::Adopt { who } => Command::Adopt(Adopt {
                environment: name(who),
                plan: Plan { path: "/elsewhere".into(), ..Plan::default() },
                head: "h".into(),
                worktree: Worktree::default(),
                actor,
                nonce: self.nonce(),
            }),
            Act::Clean { who, now } => Command::Clean { environment: name(who), now, actor },
            Act::UndoClean { who } => Command::UndoClean { environment: name(who), actor },
            Act::EmptyTrash { who, lose } => {
                Command::EmptyTrash { environment: who.map(name), lose, actor }
            }
            Act::DiskLow => Command::DiskLow,
            Act::DropRescue { who, life } => {
                Command::DropRescue { environment: name(who), incarnation: life, actor }
            }
            Act::GiveUp { who, life } => Command::WatchGaveUp(WatcherGaveUp {
                environment: name(who),
                incarnation: life,
                attempts: 60,
                reason: "a test".into(),
            }),
            Act::WatchAgain { who } => Command::WatchAgain { environment: name(who) },
            Act::Label { who, n } => label(who, n),
            Act::Confirm { epoch } => {
                Command::ConfirmLiveSet { epoch, options: TeardownOptions::default(), actor }
            }
            Act::Run { who, key, lease } => Command::BeginRun {
                environment: name(who),
                request: request(Some(key)).expect("a key"),
                lease: lease.map(|n| LeaseId::parse(&format!("l{n}")).expect("a lease id")),
                name: "test".into(),
                actor,
            },
            Act::EndRun { key } => end_run(key),
            _ => Command::Sweep(SweepRequested { apply: true, limit: 1, actor }),
        };
        let once = matches!(act, Act::GiveUp { .. } | Act::WatchAgain { .. } | Act::Label { .. });
        self.command(command.clone());
        assert!(!once || !self.command(command), "{act:?} is said once");
    }

    /// Returns one of the running effects, so that every kind of subject is chosen.
    fn nth_running(&self, n: usize) -> Option<Subject> {
        let turn = (n + self.log.len()) % self.running.len().max(1);
        self.running.keys().nth(turn).cloned()
    }
}

fn end_run(key: u8) -> Command {
    let request = request(Some(key)).expect("a key");
    Command::EndRun { request, code: Some(0), why: None }
}

fn label(who: usize, n: Option<u8>) -> Command {
    let label = n.map(|n| Label::parse(&n.to_string()).expect("a label"));
    let actor = crate::event::Actor::default();
    Command::Label(EnvironmentLabeled { environment: name(who), label, actor })
}
