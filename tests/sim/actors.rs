//! What clients and operators do.

use std::{sync::PoisonError, time::Duration};

use userpilot_gateway::{
    domain::{
        admission::QueueRefusal,
        express::ExpressEvent,
        lifecycle::Event,
        time::Timestamp,
        update::{ClientId, Lane, SubjectKind, Update, Value},
    },
    store::queue::{DeadFilter, DeadId, DeadLetter, Disposition, Found, Retention},
};

use crate::{
    account::{COMPANY, company, number_of, subject_of},
    checker::{Heard, Occurred, Sent},
    express::show_rows,
    ledger::Outcomes,
    process::{EPOCH_MICROS, at_once},
    sabotage::Sabotage,
    scenario::Fault,
    world::{Halt, World},
};

const LONG_TEXT: usize = 1_600;
/// Far enough from all that happens in a run.
const FAR_MICROS: i64 = 1_000_000_000_000;

impl World {
    /// Somebody does something.
    pub(crate) fn act(&mut self) -> Result<(), Halt> {
        self.plan_a_cut();
        if self.strikes(Fault::ForeignJobs, 4) {
            let length = self.whim.millis(100, 60_000);
            self.network.inside().account.take_foreign(length);
        }
        if self.strikes(Fault::ClockSetBack, 8) || self.strikes(Fault::ClockSetForward, 8) {
            self.set_the_clock(false);
        }
        match self.whim.below(20) {
            8..14 if self.scenario.of_letters => self.tend_the_dead(),
            0..14 => self.send(),
            14 if self.scenario.has(Fault::Operator) => self.operate(),
            15 if self.scenario.has(Fault::Operator) => self.tend_the_dead(),
            16 if self.scenario.has(Fault::Prune) => self.prune(),
            17 if self.strikes(Fault::Kill, 2) => {
                self.say(|| "killed".into());
                Err(Halt::Died)
            }
            18 if self.scenario.has(Fault::Forget) => self.forget(),
            _ => self.ask_after_some(),
        }
    }

    /// A group of updates that are committed together.
    fn send(&mut self) -> Result<(), Halt> {
        let first = self.checker.sent.len() as u64;
        let (sent, updates) = self.make_group(first);
        let wall = self.now().wall;
        let hidden = self.hide_flights()?;
        let outcomes = at_once(self.process.ledger.queue.get_mut().accept(updates, wall));
        if !hidden.is_empty() {
            show_rows(&self.engine, hidden).map_err(|_| Halt::Died)?;
        }
        let died = outcomes.is_err();
        self.hear(sent, &outcomes)?;
        if died { Err(Halt::Died) } else { Ok(()) }
    }

    /// Groups that clients send between the commits of the command that is to be carried out,
    /// if it takes several.
    pub(crate) fn prepare_between(&mut self) -> Vec<Vec<Sent>> {
        if self.scenario.group_max < 1_000 || self.actions_left == 0 {
            return Vec::new();
        }
        let mut first = self.checker.sent.len() as u64;
        let mut prepared = Vec::new();
        for _ in 0..self.whim.below(3) {
            let (sent, updates) = self.make_group(first);
            first += sent.len() as u64;
            prepared.push(sent);
            let between = self.process.ledger.between.get_mut();
            between.unwrap_or_else(PoisonError::into_inner).ready.push_back(updates);
        }
        prepared
    }

    /// What was heard of these. Those whose turn did not come were never sent.
    pub(crate) fn hear_between(&mut self, prepared: Vec<Vec<Sent>>) -> Result<(), Halt> {
        let between = self.process.ledger.between.get_mut();
        let done = std::mem::take(between.unwrap_or_else(PoisonError::into_inner)).done;
        self.watch().map_err(Halt::Broken)?;
        for (sent, outcomes) in prepared.into_iter().zip(done) {
            self.tally.between += 1;
            self.hear(sent, &outcomes)?;
        }
        Ok(())
    }

    fn make_group(&mut self, first: u64) -> (Vec<Sent>, Vec<Update>) {
        let count = self.whim.between(1, self.scenario.group_max);
        (first..first + count).map(|number| self.make(number, first)).unzip()
    }

    /// Clients hear what became of a group.
    pub(crate) fn hear(&mut self, group: Vec<Sent>, outcomes: &Outcomes) -> Result<(), Halt> {
        self.note_the_dead().map_err(Halt::Broken)?;
        let liar = self.scenario.sabotage == Some(Sabotage::AnswerBeforeCommit);
        for (index, mut sent) in group.into_iter().enumerate() {
            sent.heard = match outcomes {
                Ok(outcomes) => match &outcomes[index] {
                    Ok(accepted) => {
                        if accepted.disposition == Disposition::Unchanged {
                            self.checker.unchanged(&sent, self.time).map_err(Halt::Broken)?;
                        }
                        Heard::Accepted(accepted.sequence)
                    }
                    Err(refusal) => {
                        self.check_refusal(&sent, *refusal).map_err(Halt::Broken)?;
                        Heard::Refused
                    }
                },
                Err(_) if liar => Heard::Accepted(self.checker.last_sequence() + 1),
                Err(_) => Heard::Nothing,
            };
            self.say(|| format!("send {}: {sent:?}", self.checker.sent.len()));
            self.checker.sent(sent).map_err(Halt::Broken)?;
        }
        self.network.inside().account.mark = self.checker.sent.len() as u64;
        Ok(())
    }

    /// A full queue takes what joins a record that waits.
    fn check_refusal(&mut self, refused: &Sent, refusal: QueueRefusal) -> Result<(), String> {
        match refusal {
            QueueRefusal::TooManyRecords
            | QueueRefusal::TooManyBytes
            | QueueRefusal::TooManyOfClient => {}
            QueueRefusal::RecordTooLarge => return Ok(()),
            QueueRefusal::AppHeld | QueueRefusal::StoreAway => return Err(format!("{refusal:?}")),
        }
        let of_the_user =
            |sent: &Sent| sent.user == refused.user && matches!(sent.heard, Heard::Accepted(_));
        let Some(last) = self.checker.sent.iter().rposition(of_the_user) else { return Ok(()) };
        match self.ask_after(last as u64)? {
            Some(Found::Pending { .. }) => {
                Err(format!("refused, and joins what waits: {refused:?}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// An update whose every value tells its number.
    fn make(&mut self, number: u64, group: u64) -> (Sent, Update) {
        let user = self.whim.below(self.scenario.subjects);
        let is_company = self.whim.percent(self.scenario.companies_percent);
        self.make_of(if is_company { company(user) } else { user }, number, group)
    }

    pub(crate) fn make_of(&mut self, user: u64, number: u64, group: u64) -> (Sent, Update) {
        let whim = &mut self.whim;
        let subject = subject_of(user);
        let is_repeat = whim.percent(self.scenario.repeats_percent);
        let before = self.checker.sent.iter().zip(0..).filter(|(sent, _)| sent.user == user);
        let before: Vec<u64> = before.filter(|_| is_repeat).map(|(_, number)| number).collect();
        let before = whim.one(&before).and_then(|number| usize::try_from(number).ok());
        let before = before.and_then(|number| self.checker.sent.get(number));
        let mut properties: Vec<u64> =
            (0..self.scenario.properties).filter(|_| whim.percent(50)).collect();
        if properties.is_empty() {
            properties.push(0);
        }
        let mut company = whim.percent(20) && subject.kind == SubjectKind::User;
        // Its values are those of the one that it repeats, if it does.
        let mut number = number;
        if let Some(before) = before {
            number = before.value;
            company = before.properties.contains(&COMPANY);
            properties = before.properties.clone();
            properties.retain(|property| *property != COMPANY);
        }
        // Long enough that two make a record that is too large, and short enough for one.
        let short = self.scenario.has(Fault::ShortQueue);
        let width = if short && whim.percent(50) { LONG_TEXT } else { 0 };
        let long = if company { u64::MAX } else { 1 };
        let value = |property: &u64| match property % 2 {
            0 => Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)),
            _ if *property == long => Value::Text(format!("v{number:0width$}")),
            _ => Value::Text(format!("v{number}")),
        };
        let occurred = match whim.below(6) {
            0 if self.scenario.has(Fault::OccurredAt) => Occurred::Before(whim.below(100)),
            1 if self.scenario.has(Fault::OccurredAt) => Occurred::After(whim.below(100)),
            _ => Occurred::WhenAccepted,
        };
        let lane = match whim.below(10) {
            0..3 => Lane::Bulk,
            3..7 if self.scenario.has(Fault::Express) => Lane::Express,
            _ => Lane::Interactive,
        };
        let client = ClientId(u16::try_from(whim.below(3)).unwrap_or(0));
        let update = Update {
            app: self.process.ledger.app,
            client,
            subject,
            company_id: company.then(|| format!("c{number:0width$}")),
            properties: properties.iter().map(|p| (format!("p{p}"), value(p))).collect(),
            occurred_at: occurred_at(occurred),
            lane,
        };
        properties.extend(company.then_some(COMPANY));
        let heard = Heard::Nothing;
        (Sent { user, value: number, properties, occurred, heard, group }, update)
    }

    fn operate(&mut self) -> Result<(), Halt> {
        let paused = match self.whim.below(4) {
            0 => true,
            1 | 2 => false,
            _ => {
                self.say(|| "flush".into());
                self.process.operations.push(Event::Flush);
                self.tell_express(ExpressEvent::Flush);
                return Ok(());
            }
        };
        self.say(|| format!("pause: {paused}"));
        let app = self.process.ledger.app;
        // Until it is known to be durable, it is not known which way it is.
        self.network.inside().account.paused_since = None;
        let queue = self.process.ledger.queue.get_mut();
        at_once(queue.pause(app, paused)).map_err(|_| Halt::Died)?;
        self.network.inside().account.paused_since = paused.then_some(self.time);
        self.process.operations.push(Event::Paused(paused));
        self.tell_express(ExpressEvent::Paused(paused));
        Ok(())
    }

    /// Shows the checker the dead letters there are.
    pub(crate) fn note_the_dead(&mut self) -> Result<(), String> {
        if self.engine.has_crashed() || self.process.depth().dead_letters == 0 {
            return Ok(());
        }
        let ledger = &self.process.ledger;
        let filter = DeadFilter::default();
        let page = at_once(ledger.reads.dead_letters(ledger.app, &filter, None, usize::MAX));
        for letter in page.map_err(|error| error.to_string())?.letters {
            let user = number_of(&letter.subject).ok_or("a letter about nobody")?;
            self.checker.died(user, |sequence| letter.record.holds(sequence));
        }
        Ok(())
    }

    /// An operator replays or discards some dead letter.
    fn tend_the_dead(&mut self) -> Result<(), Halt> {
        let ledger = &self.process.ledger;
        let filter = DeadFilter::default();
        let page = at_once(ledger.reads.dead_letters(ledger.app, &filter, None, 50));
        let page = page.map_err(|error| Halt::Broken(format!("no dead letters: {error}")))?;
        let ids: Vec<DeadId> = page.letters.iter().map(|letter| letter.id).collect();
        let Some(id) = self.whim.one(&ids) else { return Ok(()) };
        let (app, now) = (ledger.app, self.now().wall);
        if self.whim.percent(20) {
            self.say(|| format!("discard {id}"));
            let queue = self.process.ledger.queue.get_mut();
            return at_once(queue.discard(app, id, now)).map(drop).map_err(|_| Halt::Died);
        }
        self.say(|| format!("replay {id}"));
        if self.scenario.sabotage == Some(Sabotage::ReplayAsNew) {
            return self.replay_as_new(page.letters.into_iter().find(|letter| letter.id == id));
        }
        let queue = self.process.ledger.queue.get_mut();
        let replay = at_once(queue.replay(app, id, now)).map_err(|_| Halt::Died)?;
        self.say(|| format!("  {replay:?}"));
        Ok(())
    }

    fn replay_as_new(&mut self, letter: Option<DeadLetter>) -> Result<(), Halt> {
        let Some(letter) = letter else { return Ok(()) };
        let (app, now) = (self.process.ledger.app, self.now().wall);
        let queue = self.process.ledger.queue.get_mut();
        let properties = letter.record.properties.into_iter();
        let update = Update {
            app,
            client: ClientId(0),
            subject: letter.subject,
            company_id: letter.record.company_id.map(|(id, _)| id),
            properties: properties.map(|property| (property.name, property.value)).collect(),
            occurred_at: None,
            lane: Lane::Interactive,
        };
        at_once(queue.accept(vec![update], now)).map(drop).map_err(|_| Halt::Died)
    }

    /// Nobody dies without a reason, unless good rows are refused, too.
    fn check_death(&self, number: u64, letter: &DeadLetter) -> Result<(), String> {
        let innocent = [
            Fault::BadRows,
            Fault::RefusesAll,
            Fault::RefusesCompanies,
            Fault::TooLarge,
            Fault::JobFails,
            Fault::JobIsPartial,
        ];
        if letter.closed.is_some() || innocent.iter().any(|fault| self.scenario.has(*fault)) {
            return Ok(());
        }
        let of = |value: &Value| match value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::Text(text) => text.trim_start_matches('v').parse().ok(),
            Value::Null | Value::Bool(_) | Value::Float(_) => None,
        };
        let company = letter.record.company_id.as_ref().map(|(id, _)| id);
        let company = company.and_then(|id| id.trim_start_matches('c').parse().ok());
        let mut values =
            letter.record.properties.iter().filter_map(|p| of(&p.value)).chain(company);
        let poison = |number| self.scenario.is_poison(number);
        // What was struck since may have been what it died of.
        let sent = usize::try_from(number).ok().and_then(|number| self.checker.sent.get(number));
        let user = sent.map(|sent| sent.user);
        let mut others =
            self.checker.sent.iter().zip(0..).filter(|(sent, _)| Some(sent.user) == user);
        match values.any(poison) || others.any(|(_, number)| poison(number)) {
            true => Ok(()),
            false => Err(format!("update {number} is dead, and nothing was wrong with it")),
        }
    }

    fn prune(&mut self) -> Result<(), Halt> {
        let keep = Duration::from_millis(self.whim.below(60_000));
        let retention = Retention {
            before: self.now().wall.minus(keep),
            batches_max: self.whim.below(20),
            now: self.now(),
            ..Retention::default()
        };
        self.say(|| format!("prune: {retention:?}"));
        let from = std::mem::take(&mut self.process.pruned_to);
        let queue = self.process.ledger.queue.get_mut();
        self.process.pruned_to = at_once(queue.prune(from, retention)).map_err(|_| Halt::Died)?;
        Ok(())
    }

    fn ask_after_some(&mut self) -> Result<(), Halt> {
        for _ in 0..3 {
            let number = self.whim.below(self.checker.sent.len().max(1) as u64);
            self.ask_after(number).map_err(Halt::Broken)?;
        }
        Ok(())
    }

    /// Asks what became of an update, if there is a receipt for it.
    pub(crate) fn ask_after(&mut self, number: u64) -> Result<Option<Found>, String> {
        let sent = usize::try_from(number).ok().and_then(|number| self.checker.sent.get(number));
        let Some(sent) = sent else { return Ok(None) };
        let Heard::Accepted(sequence) = sent.heard else { return Ok(None) };
        let ledger = &self.process.ledger;
        let subject = subject_of(sent.user);
        let found = at_once(ledger.reads.find(ledger.app, &subject, sequence));
        let found = found.map_err(|error| format!("cannot be read: {error}"))?;
        self.say(|| format!("ask after {number}: {found:?}"));
        let delivered = match &found {
            Found::Pending { last_sequence, .. } | Found::Delivered { last_sequence, .. }
                if *last_sequence < sequence =>
            {
                return Err(format!("update {number} is said to be in what ended before it"));
            }
            Found::Pending { .. } | Found::InFlight(_) | Found::InExpress => false,
            Found::Dead(letter) => {
                if self.scenario.sabotage.is_none() {
                    self.check_death(number, letter)?;
                }
                false
            }
            Found::Delivered { .. } | Found::DeliveredLongAgo => true,
            Found::Forgotten if self.state_was_lost => return Ok(Some(found)),
            Found::Forgotten => {
                return self.checker.told_forgotten(number, true).map(|()| Some(found));
            }
            Found::Damaged => return Err(format!("update {number} is said to be damaged")),
            Found::Unknown => return Err(format!("update {number} is not known")),
        };
        self.checker.told_forgotten(number, false)?;
        self.checker.told(number, delivered)?;
        Ok(Some(found))
    }
}

fn occurred_at(occurred: Occurred) -> Option<Timestamp> {
    let at = |base: i64, offset: u64| {
        Some(Timestamp::from_micros(base + i64::try_from(offset).unwrap_or(0)))
    };
    match occurred {
        Occurred::Before(offset) => at(EPOCH_MICROS - FAR_MICROS, offset),
        Occurred::WhenAccepted => None,
        Occurred::After(offset) => at(EPOCH_MICROS + FAR_MICROS, offset),
    }
}
