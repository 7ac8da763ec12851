//! The two sides of the lease together: nodes whose clocks drift, whose machines pause, and whose
//! requests and answers get lost, never act at the same time.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use tidemill_model::{BootTime, ETag, LeaseDoc, Nonce, Timestamp, Ttl};

use crate::clocks::Clocks;
use crate::lease::claim::{self, ClaimTerms, ClaimWait, Claiming};
use crate::lease::renew::{self, LeaseFound, LeaseGate, LeaseVersion, NextWrite, Renewal};
use crate::testing::{epoch, etag, instance, node, status};

const TTL_MS: u64 = 10_000;

/// What happens to a request: its delays in milliseconds on the way there and back.
#[derive(Debug, Clone, Copy)]
struct Fate {
    arrives: bool,
    answered: bool,
    there: u64,
    back: u64,
}

#[derive(Debug, Clone)]
enum Request {
    Put(Box<LeaseDoc>, Option<ETag>),
    Get,
}

#[derive(Debug, Clone)]
enum Event {
    Arrive(usize, u64, Request, Fate),
    Answer(usize, u64, Answer),
    Look(usize),
}

#[derive(Debug, Clone)]
enum Answer {
    Written(ETag),
    Unclear,
    Read(Option<Box<LeaseVersion>>),
    ReadFailed,
}

enum Role {
    Idle,
    Looking,
    Taking(Box<Claiming>),
    Holding(Box<Renewal>),
    Lost,
}

struct Machine {
    role: Role,
    /// Parts per thousand by which its clock runs fast.
    rate: u64,
    /// Which incarnation asks: answers to an older one are dropped.
    turn: u64,
}

struct World {
    now: u64,
    order: u64,
    queue: BTreeMap<(u64, u64), Event>,
    machines: Vec<Machine>,
    store: Option<LeaseVersion>,
    /// When the store took the present version.
    written: u64,
    versions: u64,
    nonces: u64,
    claims: Vec<u64>,
    fates: Vec<Fate>,
    used: usize,
}

impl World {
    fn moment(&self, who: usize) -> Clocks {
        let ms = self.now * self.machines[who].rate / 1000;
        let micros = i64::try_from(ms).unwrap() * 1000;
        Clocks {
            boot: BootTime::from_nanos(ms * 1_000_000),
            wall: Timestamp::from_micros(micros).unwrap(),
        }
    }

    fn push(&mut self, after: u64, event: Event) {
        self.order += 1;
        self.queue.insert((self.now + after, self.order), event);
    }

    fn send(&mut self, who: usize, request: Request) {
        let fate = self.fates[self.used % self.fates.len()];
        self.used += 1;
        let turn = self.machines[who].turn;
        self.push(fate.there, Event::Arrive(who, turn, request, fate));
    }

    fn fresh(&mut self) -> NextWrite {
        self.nonces += 1;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.nonces.to_be_bytes());
        NextWrite { nonce: Nonce::from_random(bytes), status: status(), covered: None }
    }

    fn arrive(&mut self, who: usize, turn: u64, request: &Request, fate: Fate) {
        let lost = |request: &Request| match request {
            Request::Put(..) => Answer::Unclear,
            Request::Get => Answer::ReadFailed,
        };
        let mut answer = lost(request);
        if fate.arrives {
            let truth = match request.clone() {
                Request::Put(doc, if_match) => {
                    if self.store.as_ref().map(|seen| seen.etag.clone()) == if_match {
                        self.versions += 1;
                        let tag = etag(self.versions);
                        if doc.acquired == doc.nonce {
                            self.claims.push(doc.epoch.get());
                        }
                        self.written = self.now;
                        self.store = Some(LeaseVersion { doc: *doc, etag: tag.clone(), age: None });
                        Answer::Written(tag)
                    } else {
                        Answer::Unclear
                    }
                }
                Request::Get => {
                    let age = Duration::from_millis(self.now - self.written);
                    let age = Some(age.saturating_sub(Duration::from_secs(1)));
                    Answer::Read(
                        self.store.clone().map(|seen| Box::new(LeaseVersion { age, ..seen })),
                    )
                }
            };
            if fate.answered {
                answer = truth;
            }
        }
        let timeout = if fate.answered { fate.back } else { 1000 };
        self.push(timeout, Event::Answer(who, turn, answer));
    }

    fn look(&mut self, who: usize) {
        let now = self.moment(who);
        match self.machines[who].role {
            Role::Idle => {
                self.machines[who].role = Role::Looking;
                self.send(who, Request::Get);
            }
            Role::Taking(_) => self.claiming(who, claim::Input::Tick, now),
            Role::Holding(_) => {
                let fresh = self.fresh();
                self.renewal(who, renew::Input::Tick(fresh), now);
            }
            Role::Looking | Role::Lost => {}
        }
        self.push(97, Event::Look(who));
    }

    fn answer(&mut self, who: usize, turn: u64, answer: Answer) {
        if self.machines[who].turn != turn {
            return;
        }
        let now = self.moment(who);
        match (&self.machines[who].role, answer) {
            (Role::Looking, Answer::Read(seen)) => self.begin_taking(who, seen, now),
            (Role::Looking, _) => self.machines[who].role = Role::Idle,
            (Role::Taking(_), answer) => {
                let input = match answer {
                    Answer::Written(tag) => claim::Input::Written(tag),
                    Answer::Unclear => claim::Input::Unclear,
                    Answer::Read(seen) => claim::Input::Read(seen),
                    Answer::ReadFailed => claim::Input::ReadFailed,
                };
                self.claiming(who, input, now);
            }
            (Role::Holding(_), answer) => {
                let input = match answer {
                    Answer::Written(tag) => renew::Input::Written(tag),
                    Answer::Unclear => renew::Input::Unclear,
                    Answer::Read(seen) => {
                        renew::Input::Read(seen.map_or(LeaseFound::Absent, LeaseFound::Version))
                    }
                    Answer::ReadFailed => renew::Input::ReadFailed,
                };
                self.renewal(who, input, now);
            }
            (Role::Idle | Role::Lost, _) => {}
        }
    }

    fn begin_taking(&mut self, who: usize, seen: Option<Box<LeaseVersion>>, now: Clocks) {
        let fresh = self.fresh();
        let patience = match &seen {
            // The last machine has the ids of the one that holds the lease, and another boot.
            Some(seen) if !seen.doc.released && who == 2 => ClaimWait::Rebooted,
            Some(seen) if !seen.doc.released => ClaimWait::UntilExpired,
            Some(_) | None => ClaimWait::AtOnce,
        };
        let next = seen.as_ref().map_or(1, |seen| seen.doc.epoch.get() + 1);
        let attempt = ClaimTerms {
            node: node(),
            epoch: epoch(next),
            instance: instance(u8::try_from(who).unwrap()),
            acquired: fresh.nonce.clone(),
            nonce: fresh.nonce,
            ttl: Ttl::from_millis(TTL_MS).unwrap(),
            patience,
            seen,
            seen_at: now.boot,
            gone_ttl: None,
            covered: None,
        };
        self.machines[who].role = Role::Taking(Box::new(Claiming::new(attempt)));
    }

    fn claiming(&mut self, who: usize, input: claim::Input, now: Clocks) {
        let Role::Taking(claiming) = &mut self.machines[who].role else { return };
        for effect in claiming.handle(input, now) {
            match effect {
                claim::Effect::Waiting { .. } => {}
                claim::Effect::Get => self.send(who, Request::Get),
                claim::Effect::Prepare => {
                    self.claiming(who, claim::Input::Prepared(Box::new(status())), now);
                }
                claim::Effect::Put { doc, if_match } => {
                    self.send(who, Request::Put(doc, if_match));
                }
                claim::Effect::Claimed(claim) => {
                    self.machines[who].role = Role::Holding(Box::new(Renewal::new(*claim)));
                }
                claim::Effect::Changed => self.machines[who].role = Role::Idle,
            }
        }
    }

    fn renewal(&mut self, who: usize, input: renew::Input, now: Clocks) {
        let Role::Holding(renewal) = &mut self.machines[who].role else { return };
        for effect in renewal.handle(input, now) {
            match effect {
                renew::Effect::Put { doc, if_match } => {
                    self.send(who, Request::Put(doc, Some(if_match)));
                }
                renew::Effect::Get => self.send(who, Request::Get),
                renew::Effect::Gate(LeaseGate::Fenced { .. }) => {
                    self.machines[who].role = Role::Lost;
                }
                renew::Effect::Gate(_) | renew::Effect::Released => {}
            }
        }
    }

    /// The nodes that may act now, each by its own clock.
    fn acting(&self) -> Vec<usize> {
        (0..self.machines.len())
            .filter(|&who| match &self.machines[who].role {
                Role::Holding(renewal) => match renewal.gate() {
                    LeaseGate::Open { until } => self.moment(who).boot < *until,
                    LeaseGate::Closed | LeaseGate::Fenced { .. } | LeaseGate::Released => false,
                },
                Role::Idle | Role::Looking | Role::Taking(_) | Role::Lost => false,
            })
            .collect()
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    (prop::bool::weighted(0.7), prop::bool::weighted(0.7), 0..3000u64, 0..3000u64)
        .prop_map(|(arrives, answered, there, back)| Fate { arrives, answered, there, back })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn two_never_act_at_once_and_epochs_only_grow(
        fates in prop::collection::vec(fate(), 64..256),
        rates in prop::collection::vec(960..1040u64, 3),
        pauses in prop::collection::vec((0..120_000u64, 0..3usize, 1000..40_000u64), 0..6),
    ) {
        let machines = rates
            .iter()
            .map(|&rate| Machine { role: Role::Idle, rate, turn: 0 })
            .collect();
        let mut world = World {
            now: 1000, order: 0, queue: BTreeMap::new(), machines, store: None,
            written: 0, versions: 0, nonces: 0, claims: Vec::new(), fates, used: 0,
        };
        for who in 0..3 {
            world.push(u64::try_from(who).unwrap() * 50, Event::Look(who));
        }
        while let Some(((when, _), event)) = world.queue.pop_first() {
            if when > 120_000 {
                break;
            }
            world.now = when;
            let paused = |who: usize| pauses.iter().find_map(|&(from, machine, long)| {
                (machine == who && (from..from + long).contains(&when)).then_some(from + long)
            });
            let who = match &event {
                Event::Answer(who, ..) | Event::Look(who) => Some(*who),
                Event::Arrive(..) => None,
            };
            if let Some(until) = who.and_then(paused) {
                world.push(until - when, event);
                continue;
            }
            match event {
                Event::Arrive(who, turn, request, fate) => world.arrive(who, turn, &request, fate),
                Event::Answer(who, turn, answer) => world.answer(who, turn, answer),
                Event::Look(who) => world.look(who),
            }
            prop_assert!(world.acting().len() <= 1, "at {when}: {:?} act", world.acting());
        }
        let grow = world.claims.windows(2).all(|pair| pair[0] < pair[1]);
        prop_assert!(grow, "claims {:?}", world.claims);
    }
}
