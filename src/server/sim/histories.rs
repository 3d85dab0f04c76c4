//! Thousands of seeded histories of the model, and what they must show.

use crate::server::sim::network::Model;

const HISTORIES: u64 = 2_000;
const STEPS: u64 = 75;

/// Counts of what happened: a model in which nothing happens would prove nothing.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    faults: u64,
    kills: u64,
    lives: u64,
    commands: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.faults += other.faults;
        self.kills += other.kills;
        self.lives += other.lives;
        self.commands += other.commands;
    }
}

/// Runs the histories of these seeds.
fn histories(seeds: impl Iterator<Item = u64>) -> Tally {
    let mut all = Tally::default();
    for seed in seeds {
        let ran = std::panic::catch_unwind(|| history(seed, false));
        all += ran.unwrap_or_else(|_| panic!("seed {seed}"));
    }
    all
}

fn history(seed: u64, is_forgetful: bool) -> Tally {
    let mut model = Model::new(seed);
    model.host.is_forgetful = is_forgetful;
    for _ in 0..STEPS {
        model.step();
    }
    model.settle();
    model.host.disk_agrees();
    let lives = model.host.state().environments().map(|env| u64::from(env.incarnation)).sum();
    let kills = u64::from(model.host.state().boot()) - 1;
    Tally { faults: model.faults, kills, lives, commands: model.host.commands() }
}

/// Negative control: if the core does not know request ids, a command runs twice, which must be
/// detected.
#[test]
fn forgotten_request_ids_are_detected() {
    let caught = |seed| std::panic::catch_unwind(|| history(seed, true)).is_err();
    assert!((1..400).any(caught), "the fault was not detected");
}

#[test]
fn both_sides_agree_after_every_history() {
    let named = |variable: &str| std::env::var(variable).ok().and_then(|text| text.parse().ok());
    let first = named("GROUNDSKEEPER_MODEL_SEED").unwrap_or(1);
    let many = named("GROUNDSKEEPER_MODEL_RUNS").unwrap_or(HISTORIES);
    let mut all = Tally::default();
    std::thread::scope(|scope| {
        let shares: Vec<_> = (0..2)
            .map(|share| scope.spawn(move || histories((first + share..first + many).step_by(2))))
            .collect();
        for share in shares {
            all += share.join().expect("both sides agree");
        }
    });
    println!("{many} histories from {first}: {all:?}");
    let Tally { faults, kills, lives, commands } = all;
    let enough = faults > many && kills > many / 2 && lives > many && commands > many / 4;
    assert!(many < 100 || enough, "{many} histories and only {all:?}");
}
