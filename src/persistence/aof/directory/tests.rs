//! Every order of events, faults and crashes on a model of a disk.
//!
//! The data is a counter: write number n is the record n, a base that holds n writes is the number n. What is
//! loaded must count up without a gap and reach every write that was synchronised.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

type Inode = usize;
type Names = BTreeMap<FileAt, Inode>;

#[derive(Clone, Default, Debug)]
struct File {
    bytes: Vec<u8>,
    /// So many survive a loss of power.
    synced: usize,
}

/// A disk whose directories reach it in order, but late.
#[derive(Clone, Default, Debug)]
struct Disk {
    files: Vec<File>,
    has_dir: bool,
    names: Names,
    /// What the directories may be after a loss of power, beside `names`.
    possible: Vec<Names>,
}

impl Disk {
    fn change_names(&mut self, change: impl FnOnce(&mut Names)) {
        self.possible.push(self.names.clone());
        change(&mut self.names);
    }

    fn make(&mut self, at: &FileAt, bytes: Vec<u8>, synced: usize) {
        assert!(at.place == Place::Data || self.has_dir, "{at:?} is made before its directory");
        let file = File { bytes, synced };
        match self.names.get(at) {
            Some(inode) => self.files[*inode] = file,
            None => {
                self.files.push(file);
                let inode = self.files.len() - 1;
                self.change_names(|names| {
                    names.insert(at.clone(), inode);
                });
            }
        }
    }

    /// False if the step is one that a disk refuses.
    fn carry_out(&mut self, step: &Step) -> bool {
        match step {
            Step::MakeDir => self.has_dir = true,
            Step::Write(at, bytes) => self.make(at, bytes.clone(), bytes.len()),
            Step::Sync(at) => {
                let Some(inode) = self.names.get(at) else { return false };
                let file = &mut self.files[*inode];
                file.synced = file.bytes.len();
            }
            Step::Create(at) => self.make(at, Vec::new(), 0),
            Step::Rename(from, to) => {
                let Some(inode) = self.names.get(from).copied() else { return false };
                self.change_names(|names| {
                    names.remove(from);
                    names.insert(to.clone(), inode);
                });
            }
            Step::Unlink(at) => self.change_names(|names| {
                names.remove(at);
            }),
            Step::SyncDir(_) => self.possible.clear(),
        }
        true
    }

    /// What may be left after a loss of power.
    fn after_power_loss(&self) -> impl Iterator<Item = Disk> {
        self.possible.iter().chain([&self.names]).map(|names| {
            let mut disk = Disk { names: names.clone(), possible: Vec::new(), ..self.clone() };
            disk.files.iter_mut().for_each(|file| file.bytes.truncate(file.synced));
            disk
        })
    }

    fn content(&self, at: &FileAt) -> Option<&[u8]> {
        self.names.get(at).map(|inode| self.files[*inode].bytes.as_slice())
    }

    /// Starts on this disk: the directory, and how far the data counts.
    fn start(&mut self) -> (Directory, u32) {
        let manifest = self.content(&FileAt::append("a.manifest".into())).map(<[u8]>::to_vec);
        let standing = Standing {
            manifest: manifest.as_deref(),
            has_old_file: self.names.contains_key(&FileAt::data("a".into())),
            has_moved_file: self.names.contains_key(&FileAt::append("a".into())),
        };
        let mut directory = Directory::open("a", &standing).unwrap();
        if let Some(change) = directory.upgrade(&standing) {
            change.steps.iter().for_each(|step| assert!(self.carry_out(step), "{step:?}"));
            directory.commit(change);
        }
        let mut count = 0;
        for file in directory.to_load() {
            let at = FileAt::append(file.name.clone());
            let bytes = self.content(&at).unwrap_or_else(|| panic!("{at:?} is listed and missing"));
            for line in String::from_utf8(bytes.to_vec()).unwrap().lines() {
                let number: u32 = line[1..].parse().unwrap();
                match &line[..1] {
                    "b" => assert_eq!(count, 0, "a base comes first"),
                    _ => assert_eq!(number, count + 1, "writes are missing"),
                }
                count = number;
            }
        }
        (directory, count)
    }
}

/// A process on that disk.
struct World {
    disk: Disk,
    directory: Directory,
    sink: Option<Inode>,
    /// Writes that the data has.
    count: u32,
    /// The most it has had: what a fault left between two manifests may come back after a loss of power.
    most: u32,
    /// Writes that a crash must not lose.
    safe: u32,
    /// Writes in the base under way.
    rewrite: Option<u32>,
}

impl World {
    fn new(disk: Disk) -> Self {
        let directory = Directory::open("a", &Standing::default()).unwrap();
        let mut world =
            Self { disk, directory, sink: None, count: 0, most: 0, safe: 0, rewrite: None };
        world.restart();
        world
    }

    fn restart(&mut self) {
        let (directory, count) = self.disk.start();
        assert!(count >= self.safe, "{count} of {} writes are left", self.safe);
        (self.directory, self.count, self.rewrite, self.sink) = (directory, count, None, None);
        (self.safe, self.most) = (0, self.most.max(count));
        let change = self.directory.begin(BaseFormat::Rdb, b"b0\n");
        self.apply(change, None);
        assert_eq!(self.disk.start().1, count);
        self.sync();
    }

    /// Carries a change out. A crash at any step must leave what loads. `fault`: the step that fails, before or after
    /// it has done its work, and the step of the undoing that fails.
    fn apply(&mut self, change: Change, fault: Option<Fault>) -> bool {
        for (number, step) in change.steps.iter().enumerate() {
            let fails = fault.filter(|fault| fault.step == number);
            let done = fails.is_none_or(|fault| fault.has_effect) && self.disk.carry_out(step);
            self.crash_everywhere();
            if fails.is_some() || !done {
                self.undo(&change, fails.map_or(usize::MAX, |fault| fault.undo_step));
                self.directory.abandon(&change);
                return false;
            }
        }
        if let Some(at) = &change.opens {
            self.sink = Some(self.disk.names[at]);
        }
        self.directory.commit(change);
        if self.directory.sink().is_none() {
            self.sink = None;
        }
        true
    }

    fn undo(&mut self, change: &Change, failing: usize) {
        for (number, step) in change.undo.iter().enumerate() {
            if number == failing || !self.disk.carry_out(step) {
                break;
            }
            self.crash_everywhere();
        }
        self.crash_everywhere();
    }

    fn crash_everywhere(&self) {
        let least = self.safe;
        let killed = self.disk.clone();
        for mut disk in self.disk.after_power_loss().chain([killed]) {
            let (directory, count) = disk.start();
            assert!(count >= least, "{count} of {least} writes are left: {directory:?} {disk:?}");
            assert!(count <= self.most, "nothing is loaded that was never written");
        }
    }

    fn write(&mut self) {
        self.count += 1;
        self.most = self.most.max(self.count);
        if let Some(sink) = self.sink {
            self.disk.files[sink].bytes.extend(format!("r{}\n", self.count).bytes());
        }
    }

    fn sync(&mut self) {
        if let Some(sink) = self.sink {
            let file = &mut self.disk.files[sink];
            file.synced = file.bytes.len();
            self.safe = if self.directory.awaits_base() { 0 } else { self.count };
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Write => self.write(),
            Event::Sync => self.sync(),
            Event::Restart => self.restart(),
            Event::SwitchOff(fault) if self.sink.is_some() => {
                self.sync();
                self.safe = 0;
                let change = self.directory.switch_off();
                if self.apply(change, fault) {
                    self.rewrite = None;
                }
            }
            Event::SwitchOn(fault) if self.sink.is_none() => {
                self.rewrite = None;
                let change = self.directory.switch_on();
                self.apply(change, fault);
            }
            Event::Rewrite(fault) => self.rewrite(fault),
            Event::CleanUp(fault) => {
                if let Some(change) = self.directory.clean_up() {
                    self.apply(change, fault);
                }
            }
            Event::SwitchOff(_) | Event::SwitchOn(_) => {}
        }
    }

    /// Begins a rewrite, or ends the one that has begun.
    fn rewrite(&mut self, fault: Option<Fault>) {
        let Some(cut) = self.rewrite.take() else {
            self.sync();
            let change = self.directory.rewrite_begins();
            if self.apply(change, fault) {
                self.rewrite = Some(self.count);
            }
            return;
        };
        let base = format!("b{cut}\n").into_bytes();
        self.disk.carry_out(&Step::Write(FileAt::data("temp".into()), base));
        // What came after the cut is as safe as before when the base stands in front of it.
        self.sync();
        let change = self.directory.rewritten("temp", BaseFormat::Rdb);
        if !self.apply(change, fault) {
            let change = self.directory.rewrite_failed("temp");
            self.apply(change, None);
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Fault {
    step: usize,
    has_effect: bool,
    undo_step: usize,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Write,
    Sync,
    Restart,
    SwitchOn(Option<Fault>),
    SwitchOff(Option<Fault>),
    Rewrite(Option<Fault>),
    CleanUp(Option<Fault>),
}

fn event() -> impl Strategy<Value = Event> {
    let fault = (0usize..6, any::<bool>(), 0usize..6)
        .prop_map(|(step, has_effect, undo_step)| Fault { step, has_effect, undo_step });
    let fault = || proptest::option::weighted(0.3, fault.clone());
    prop_oneof![
        6 => Just(Event::Write),
        3 => Just(Event::Sync),
        1 => Just(Event::Restart),
        1 => fault().prop_map(Event::SwitchOn),
        1 => fault().prop_map(Event::SwitchOff),
        4 => fault().prop_map(Event::Rewrite),
        2 => fault().prop_map(Event::CleanUp),
    ]
}

fn disk_with_old_file() -> Disk {
    let mut disk = Disk::default();
    disk.carry_out(&Step::Write(FileAt::data("a".into()), b"b3\nr4\n".to_vec()));
    disk.carry_out(&Step::SyncDir(Place::Data));
    disk
}

fn listing(world: &World) -> String {
    let manifest = world.disk.content(&FileAt::append("a.manifest".into())).unwrap();
    String::from_utf8(manifest.to_vec()).unwrap()
}

#[test]
fn the_life_of_a_directory_is_that_of_redis() {
    let mut world = World::new(Disk::default());
    assert_eq!(listing(&world), "file a.1.base.rdb seq 1 type b\nfile a.1.incr.aof seq 1 type i\n");
    world.restart();
    assert_eq!(world.directory.sink().unwrap().name, "a.1.incr.aof"); // no new file
    world.write();
    world.rewrite(None);
    assert_eq!(
        listing(&world),
        "file a.1.base.rdb seq 1 type b\nfile a.1.incr.aof seq 1 type i\n\
         file a.2.incr.aof seq 2 type i\n"
    );
    world.write();
    world.rewrite(None);
    assert_eq!(
        listing(&world),
        "file a.2.base.rdb seq 2 type b\nfile a.1.base.rdb seq 1 type h\n\
         file a.1.incr.aof seq 1 type h\nfile a.2.incr.aof seq 2 type i\n"
    );
    world.happens(Event::CleanUp(None));
    assert_eq!(listing(&world), "file a.2.base.rdb seq 2 type b\nfile a.2.incr.aof seq 2 type i\n");
    assert_eq!(world.disk.names.len(), 3, "{:?}", world.disk.names);
    world.happens(Event::SwitchOff(None));
    world.write();
    world.happens(Event::SwitchOn(None));
    world.write();
    assert_eq!(world.directory.sink().unwrap().name, "temp-a.incr");
    world.rewrite(None);
    world.write();
    world.rewrite(None);
    world.happens(Event::CleanUp(None));
    assert_eq!(listing(&world), "file a.3.base.rdb seq 3 type b\nfile a.3.incr.aof seq 3 type i\n");
    world.restart();
    assert_eq!(world.count, 5);
}

#[test]
fn a_file_of_redis_before_7_becomes_the_base() {
    let world = World::new(disk_with_old_file());
    assert_eq!(world.count, 4);
    assert_eq!(listing(&world), "file a seq 1 type b\nfile a.1.incr.aof seq 1 type i\n");
}

#[test]
fn an_upgrade_goes_on_after_a_crash_at_any_step() {
    let standing = Standing { has_old_file: true, ..Standing::default() };
    let change = Directory::open("a", &standing).unwrap().upgrade(&standing).unwrap();
    let mut disk = disk_with_old_file();
    for step in &change.steps {
        assert!(disk.carry_out(step));
        for mut disk in disk.after_power_loss().chain([disk.clone()]) {
            assert_eq!(disk.start().1, 4, "{step:?}");
        }
    }
    // An old file beside a directory in use is left alone.
    let mut world = World::new(Disk::default());
    world.disk.carry_out(&Step::Write(FileAt::data("a".into()), b"b9\n".to_vec()));
    world.restart();
    assert_eq!(world.count, 0);
}

#[test]
fn a_rewrite_without_aof_leaves_a_base_alone() {
    let mut world = World::new(Disk::default());
    world.write();
    world.happens(Event::SwitchOff(None));
    world.write();
    world.rewrite(None);
    world.write();
    world.rewrite(None);
    world.happens(Event::CleanUp(None));
    assert_eq!(listing(&world), "file a.2.base.rdb seq 2 type b\n");
    world.restart();
    assert_eq!(world.count, 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_crash_and_no_fault_loses_what_was_synchronised(
        has_old_file in any::<bool>(),
        events in proptest::collection::vec(event(), 0..30),
    ) {
        let disk = if has_old_file { disk_with_old_file() } else { Disk::default() };
        let mut world = World::new(disk);
        for event in events {
            world.happens(event);
            world.crash_everywhere();
        }
    }
}
