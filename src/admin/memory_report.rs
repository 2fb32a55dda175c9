//! MEMORY STATS and MEMORY DOCTOR: where the memory of the process is.

use super::facts::MemoryFacts;
use super::stats::Stats;
use crate::command::Request;
use crate::resp::Reply;

/// Bytes that are not the data itself: buffers, scripts, tables.
pub(super) fn overhead(memory: &MemoryFacts, stats: &Stats) -> u64 {
    let tables: u64 = stats.databases.iter().map(|size| size.overhead_bytes).sum();
    memory.startup
        + memory.backlog
        + memory.replicas
        + memory.cluster_links
        + memory.aof_buffer
        + memory.scripts
        + memory.functions
        + stats.counters.clients_bytes
        + tables
}

/// Writes a map whose length is counted on the way.
struct Fields<'r, 'a> {
    reply: &'r mut Reply<'a>,
    count: usize,
}

impl Fields<'_, '_> {
    fn integer(&mut self, name: &str, value: u64) {
        self.signed(name, i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn signed(&mut self, name: &str, value: i64) {
        self.reply.bulk(name.as_bytes());
        self.reply.integer(value);
        self.count += 1;
    }

    fn double(&mut self, name: &str, value: f64) {
        self.reply.bulk(name.as_bytes());
        self.reply.double(value);
        self.count += 1;
    }
}

fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

/// The reply of MEMORY STATS and MEMORY DOCTOR.
pub fn write(request: &Request<'_>, memory: &MemoryFacts, stats: &Stats, reply: &mut Reply<'_>) {
    if request.is_word(1, "doctor") {
        reply.verbatim(*b"txt", doctor(memory, stats).as_bytes());
    } else {
        write_stats(memory, stats, reply);
    }
}

fn write_stats(memory: &MemoryFacts, stats: &Stats, reply: &mut Reply<'_>) {
    let map = reply.deferred();
    let mut fields = Fields { reply, count: 0 };
    fields.integer("peak.allocated", memory.peak.max(memory.used));
    fields.integer("total.allocated", memory.used);
    fields.integer("startup.allocated", memory.startup);
    fields.integer("replication.backlog", memory.backlog);
    fields.integer("clients.slaves", memory.replicas);
    fields.integer("clients.normal", stats.counters.clients_bytes);
    fields.integer("cluster.links", memory.cluster_links);
    fields.integer("aof.buffer", memory.aof_buffer);
    fields.integer("lua.caches", memory.scripts);
    fields.integer("functions.caches", memory.functions);
    write_databases(stats, &mut fields);
    write_totals(memory, stats, &mut fields);
    let count = fields.count;
    reply.set_map_len(map, count);
}

fn write_databases(stats: &Stats, fields: &mut Fields<'_, '_>) {
    for (number, size) in stats.databases.iter().enumerate().filter(|(_, size)| size.keys > 0) {
        fields.reply.bulk(format!("db.{number}").as_bytes());
        fields.reply.map(3);
        for (name, bytes) in [
            ("overhead.hashtable.main", size.overhead_bytes),
            // Expiry and slot are part of an entry and its table here.
            ("overhead.hashtable.expires", 0),
            ("overhead.hashtable.slot-to-keys", 0),
        ] {
            fields.reply.bulk(name.as_bytes());
            fields.reply.integer(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        fields.count += 1;
    }
}

fn write_totals(memory: &MemoryFacts, stats: &Stats, fields: &mut Fields<'_, '_>) {
    let overhead = overhead(memory, stats);
    let keys: u64 = stats.databases.iter().map(|size| size.keys).sum();
    let net = memory.used.saturating_sub(memory.startup);
    let dataset = memory.used.saturating_sub(overhead);
    let peak = memory.peak.max(memory.used);
    let fragmentation = memory.resident as i64 - memory.used as i64;
    fields.integer("overhead.total", overhead);
    fields.integer("keys.count", keys);
    fields.integer("keys.bytes-per-key", net.checked_div(keys).unwrap_or(0));
    fields.integer("dataset.bytes", dataset);
    fields.double("dataset.percentage", 100.0 * ratio(dataset, net));
    fields.double("peak.percentage", 100.0 * ratio(memory.used, peak));
    fields.integer("allocator.allocated", memory.used);
    fields.integer("allocator.active", memory.used);
    fields.integer("allocator.resident", memory.resident);
    fields.double("allocator-fragmentation.ratio", 1.0);
    fields.integer("allocator-fragmentation.bytes", 0);
    fields.double("allocator-rss.ratio", ratio(memory.resident, memory.used));
    fields.signed("allocator-rss.bytes", fragmentation);
    fields.double("rss-overhead.ratio", 1.0);
    fields.integer("rss-overhead.bytes", 0);
    fields.double("fragmentation", ratio(memory.resident, memory.used));
    fields.signed("fragmentation.bytes", fragmentation);
}

/// Below this, ratios say nothing (Redis 7.0 `object.c`, getMemoryDoctorReport).
const WORTH_A_LOOK_BYTES: u64 = 5 << 20;
/// Clients and replicas that hold more than this on average read too slowly.
const BIG_CLIENT_BYTES: u64 = 200 << 10;

fn doctor(memory: &MemoryFacts, stats: &Stats) -> String {
    if memory.used < WORTH_A_LOOK_BYTES {
        return "There is hardly any data, so there is nothing to find out about its memory yet.\n"
            .to_owned();
    }
    let clients = stats.counters.connected_clients.max(1);
    let findings = [
        (
            ratio(memory.peak, memory.used) > 1.5,
            "The peak was more than 1.5 times what is in use now: the process may keep memory that \
             it will need again only at the next peak.",
        ),
        (
            ratio(memory.resident, memory.used) > 1.4,
            "The kernel counts more than 1.4 times what is allocated: after many deletions that is \
             fragmentation, and it falls when new data fills the gaps.",
        ),
        (
            stats.counters.clients_bytes / clients > BIG_CLIENT_BYTES,
            "Clients hold more than 200 kB each: some read their replies too slowly. CLIENT LIST \
             names them.",
        ),
        (
            memory.replicas > 10 << 20,
            "Output waits for replicas: they or the network to them are too slow.",
        ),
        (
            memory.script_count > 1000,
            "More than 1000 scripts are cached: send values as arguments and not in the text.",
        ),
    ];
    let lines: Vec<String> = findings
        .iter()
        .filter(|(found, _)| *found)
        .map(|(_, text)| format!(" * {text}\n"))
        .collect();
    if lines.is_empty() { "Memory is in good order.\n".to_owned() } else { lines.concat() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::stats::DatabaseSize;

    #[test]
    fn stats_are_a_map_with_a_map_for_each_database_that_has_keys() {
        let memory =
            MemoryFacts { used: 2000, startup: 1000, resident: 3000, ..Default::default() };
        let size = DatabaseSize { keys: 10, overhead_bytes: 500, ..Default::default() };
        let stats = Stats { databases: vec![DatabaseSize::default(), size], ..Default::default() };
        let mut out = Vec::new();
        write_stats(&memory, &stats, &mut Reply::new(&mut out, true));
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("%28\r\n$14\r\npeak.allocated\r\n:2000\r\n"), "{text}");
        for field in [
            "$4\r\ndb.1\r\n%3\r\n$23\r\noverhead.hashtable.main\r\n:500\r\n",
            "$10\r\nkeys.count\r\n:10\r\n",
            "$18\r\nkeys.bytes-per-key\r\n:100\r\n",
            "$14\r\noverhead.total\r\n:1500\r\n",
            "$18\r\ndataset.percentage\r\n,50\r\n",
            "$13\r\nfragmentation\r\n,1.5\r\n",
        ] {
            assert!(text.contains(field), "{field} in {text}");
        }
    }

    #[test]
    fn the_doctor_finds_what_is_out_of_order() {
        let healthy = MemoryFacts { used: 10 << 20, peak: 10 << 20, ..Default::default() };
        for (memory, finding) in [
            (MemoryFacts::default(), "hardly any data"),
            (healthy, "good order"),
            (MemoryFacts { peak: 20 << 20, ..healthy }, "The peak"),
            (MemoryFacts { resident: 20 << 20, ..healthy }, "fragmentation"),
            (MemoryFacts { replicas: 11 << 20, ..healthy }, "Output waits for replicas"),
            (MemoryFacts { script_count: 1001, ..healthy }, "scripts are cached"),
        ] {
            let report = doctor(&memory, &Stats::default());
            assert!(report.contains(finding), "{report}");
        }
        let mut stats = Stats::default();
        stats.counters.clients_bytes = 1 << 20;
        assert!(doctor(&healthy, &stats).contains("CLIENT LIST"));
    }
}
