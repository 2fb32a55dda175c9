//! A client: it makes calls, may have several under way, and checks each reply when it comes.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use corelane::resp::parse_reply::Value;

use crate::random::Random;

/// Looks at a reply; the number is the step at which it came.
pub type Check = Box<dyn FnOnce(u64, &Value)>;

/// One command on its way.
pub struct Call {
    /// What goes over the wire.
    pub bytes: Vec<u8>,
    /// The words, to be shown when something is wrong.
    text: String,
    /// `None` if there will be no reply.
    check: Option<Check>,
    /// What is sent with it and answered after it.
    rest: Vec<(String, Check)>,
}

impl Call {
    /// A command whose reply nobody looks at yet.
    pub fn new<W: AsRef<[u8]>>(words: &[W]) -> Self {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            let word = word.as_ref();
            bytes.extend(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend(word);
            bytes.extend(b"\r\n");
        }
        let shown: Vec<_> = words.iter().map(|w| String::from_utf8_lossy(w.as_ref())).collect();
        let text = shown.join(" ");
        let check: Check = Box::new(|_, reply| assert!(!is_error(reply), "an error: {reply:?}"));
        Self { bytes, text, check: Some(check), rest: Vec::new() }
    }

    /// This call and another one, sent at once: they are made both or not at all.
    pub fn then(mut self, next: Call) -> Self {
        self.bytes.extend(next.bytes);
        self.rest.extend(next.check.map(|check| (next.text, check)));
        self.rest.extend(next.rest);
        self
    }

    /// These commands between MULTI and EXEC, with what looks at the reply of EXEC.
    pub fn block<W: AsRef<[u8]>>(
        commands: &[Vec<W>],
        check: impl FnOnce(u64, &Value) + 'static,
    ) -> Self {
        let queued = || Value::Simple(b"QUEUED".to_vec());
        let multi = Call::of("multi").expect(Value::Simple(b"OK".to_vec()));
        let all =
            commands.iter().fold(multi, |all, words| all.then(Call::new(words).expect(queued())));
        all.then(Call::of("exec").check(check))
    }

    /// From words that have no spaces in them.
    pub fn of(line: &str) -> Self {
        Self::new(&line.split(' ').collect::<Vec<_>>())
    }

    /// A command as a line, the way a person types it.
    pub fn inline(line: &str) -> Self {
        Self { bytes: format!("{line}\r\n").into_bytes(), ..Self::of(line) }
    }

    pub fn check(mut self, check: impl FnOnce(u64, &Value) + 'static) -> Self {
        self.check = Some(Box::new(check));
        self
    }

    /// The reply has to be this.
    pub fn expect(self, expected: Value) -> Self {
        self.check(move |_, reply| assert_eq!(*reply, expected))
    }

    /// There will be no reply.
    pub fn unanswered(mut self) -> Self {
        self.check = None;
        self
    }
}

pub fn is_error(reply: &Value) -> bool {
    matches!(reply, Value::Error(_))
}

/// What makes the calls of a client, from the step and the random source of the world; `None` when
/// it has nothing to say (any more).
pub type Maker = Box<dyn FnMut(u64, &mut Random) -> Option<Call>>;

/// What is done with messages that come unasked.
struct Overhearing {
    /// Confirmations that are due and come the same way.
    due: Rc<Cell<usize>>,
    hear: Box<dyn FnMut(&Value)>,
    /// The connection is gone, and with it all that was known.
    start_over: Box<dyn FnMut()>,
}

/// See the module.
pub struct Talker {
    pub name: String,
    make: Maker,
    /// Calls that every new connection begins with.
    greeting: Vec<String>,
    greetings_due: VecDeque<String>,
    /// Most calls under way at once.
    depth: usize,
    owed: VecDeque<(String, Check)>,
    overhearing: Option<Overhearing>,
    first: Option<Call>,
    /// It may lose its connection at any moment, and comes back.
    pub mortal: bool,
    /// It makes calls that are answered when somebody else does something, or never.
    pub patient: bool,
    /// What is to be done when it comes back.
    forget: Box<dyn FnMut()>,
}

impl Talker {
    pub fn new(name: &str, make: impl FnMut(u64, &mut Random) -> Option<Call> + 'static) -> Self {
        Self {
            name: name.to_owned(),
            make: Box::new(make),
            greeting: Vec::new(),
            greetings_due: VecDeque::new(),
            depth: 1,
            owed: VecDeque::new(),
            overhearing: None,
            first: None,
            mortal: false,
            patient: false,
            forget: Box::new(|| {}),
        }
    }

    pub fn depth(mut self, depth: usize) -> Self {
        self.depth = depth;
        self
    }

    pub fn mortal(mut self, mortal: bool) -> Self {
        self.mortal = mortal;
        self
    }

    pub fn patient(mut self) -> Self {
        self.patient = true;
        self
    }

    /// What it has to forget when it comes back on a new connection.
    pub fn forgetting(mut self, forget: impl FnMut() + 'static) -> Self {
        self.forget = Box::new(forget);
        self
    }

    pub fn greeting(mut self, line: String) -> Self {
        self.greetings_due.push_back(line.clone());
        self.greeting.push(line);
        self
    }

    /// Hears what comes unasked; `due` counts what of it was asked for after all. `start_over` is called when
    /// the connection is lost.
    pub fn overhearing(
        mut self,
        due: Rc<Cell<usize>>,
        hear: impl FnMut(&Value) + 'static,
        start_over: impl FnMut() + 'static,
    ) -> Self {
        let (hear, start_over) = (Box::new(hear), Box::new(start_over));
        self.overhearing = Some(Overhearing { due, hear, start_over });
        self
    }

    /// Says this once, after the greeting.
    pub fn say_first(&mut self, call: Call) {
        self.first = Some(call);
    }

    /// The bytes of its next call, if it makes one now.
    pub fn speak(&mut self, now: u64, random: &mut Random) -> Option<Vec<u8>> {
        if self.owed.len() >= self.depth {
            return None;
        }
        let call = match self.greetings_due.pop_front() {
            Some(line) => Call::of(&line),
            None => match self.first.take() {
                Some(call) => call,
                None => (self.make)(now, random)?,
            },
        };
        self.owed.extend(call.check.map(|check| (call.text, check)));
        self.owed.extend(call.rest);
        Some(call.bytes)
    }

    /// Makes all these calls at once, whatever the depth.
    pub fn say_all(&mut self, calls: &mut dyn Iterator<Item = Call>, wire: &mut Vec<u8>) {
        for call in calls {
            wire.extend(call.bytes);
            self.owed.extend(call.check.map(|check| (call.text, check)));
            self.owed.extend(call.rest);
        }
    }

    pub fn hear(&mut self, now: u64, reply: &Value) {
        if let (Value::Push(_), Some(overhearing)) = (reply, &mut self.overhearing) {
            return (overhearing.hear)(reply);
        }
        let Some((text, check)) = self.owed.pop_front() else {
            panic!("{} is owed nothing and gets {reply:?}", self.name);
        };
        let look = std::panic::AssertUnwindSafe(|| check(now, reply));
        if let Err(panic) = std::panic::catch_unwind(look) {
            eprintln!("{} at step {now}: {text:.200} answered {reply:?}", self.name);
            std::panic::resume_unwind(panic);
        }
    }

    /// Replies that it waits for.
    pub fn owed(&self) -> usize {
        self.owed.len() + self.overhearing.as_ref().map_or(0, |hearing| hearing.due.get())
    }

    /// What it waits for first, to be shown when it waits for too long.
    pub fn waits_for(&self) -> &str {
        self.owed.front().map_or("nothing", |(text, _)| text)
    }

    /// Its connection is gone, and with it the replies that were owed.
    pub fn start_over(&mut self) {
        self.owed.clear();
        (self.forget)();
        if let Some(overhearing) = &mut self.overhearing {
            (overhearing.start_over)();
        }
        self.greetings_due = self.greeting.iter().cloned().collect();
    }
}
