//! Many clients at once, whose answers are lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use auth_core::FamilyId;
use auth_token::Granted;

use crate::rig::{Bed, Place, REUSE, Rig};
use crate::scenarios::{Scenario, scenarios};

scenarios![two_hundred_clients_with_lost_answers_are_never_logged_out];

/// Random numbers that are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// Each client renews again and again; a third of the answers is lost, and then it asks again, of whichever process. Nobody
/// is logged out, and of one generation there is never more than one successor.
async fn two_hundred_clients_with_lost_answers_are_never_logged_out(bed: Bed) {
    let (clients, rounds) = if bed.place == Place::Sqlite { (200, 5) } else { (200, 20) };
    let rig = Arc::new(Rig::new(bed).await);
    let seen: Arc<Mutex<BTreeMap<(FamilyId, u32), String>>> = Arc::default();
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let (rig, seen) = (Arc::clone(&rig), Arc::clone(&seen));
            tokio::spawn(async move {
                let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (client + 1));
                // A machine that is slow for a while is no logout: who gets no answer asks again.
                let mut failed = 0;
                let mut token = loop {
                    let process = usize::try_from(client).unwrap();
                    match rig.service(process).login(&rig.ctx, Rig::ask("calvin", "hobbes")).await {
                        Ok(Granted::Tokens(tokens)) => break tokens.refresh_token,
                        Err(error) if error.kind().is_temporary() && failed < 20 => failed += 1,
                        other => panic!("client {client}: {other:?}"),
                    }
                };
                let mut lost = 0;
                for _ in 0..rounds {
                    // At most so often as an answer is given again.
                    for attempt in 0..10 {
                        let process = usize::try_from(dice.below(2)).unwrap();
                        let tokens = loop {
                            match rig.try_renew(process, &token).await {
                                Ok(Granted::Tokens(tokens)) => break tokens,
                                Err(error) if error.kind().is_temporary() && failed < 20 => failed += 1,
                                other => panic!("client {client}: {other:?}"),
                            }
                        };
                        let key = (tokens.family, tokens.generation);
                        let text = tokens.refresh_token.to_string();
                        let known = seen.lock().unwrap().entry(key).or_insert_with(|| text.clone()).clone();
                        assert_eq!(known, text, "two successors of one token");
                        if attempt < 9 && dice.below(3) == 0 {
                            lost += 1;
                            continue;
                        }
                        token = tokens.refresh_token;
                        break;
                    }
                }
                (lost, failed)
            })
        })
        .collect();
    let (mut lost, mut failed) = (0, 0);
    for task in tasks {
        let (more, other) = task.await.unwrap();
        lost += more;
        failed += other;
    }
    assert!(lost > clients * rounds / 4, "{lost}");
    assert_eq!(rig.told(REUSE), 0);
    // What the store has done without being able to say so is answered again.
    assert!(rig.sessions("calvin").await.len() >= 200);
    assert!(rig.told("renew") <= clients * rounds && rig.told("renew") + failed >= clients * rounds);
    assert!(rig.told("retry_in_grace") >= lost && rig.told("retry_in_grace") <= lost + failed);
}
