//! What is counted is told, under one name in each place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use auth_cache::{Bound, CarrierStats, HearingStats, SharedStats};
use auth_core::Clock;
use auth_password::HashedStats;
use auth_stack::Stack;
use auth_testkit::ManualClock;
use auth_testkit::servers::{Redis, RedisOptions, skipped};
use serde_json::{Value, json};

use super::{HASH, MANAGED, add, check, check_group, check_password, ready, s, stack};
use crate::command::Command;
use crate::{figures, metrics, ops};

/// Reads a page as Prometheus does, and returns its families and their kinds.
fn check_page(page: &str) -> BTreeMap<&str, &str> {
    let mut kinds = BTreeMap::new();
    let (mut family, mut kind) = ("", "");
    let mut samples = BTreeSet::new();
    // Of each histogram, by its labels without `le`: the bound and the value of its last bucket, and its count.
    let mut histograms: BTreeMap<(&str, String), (f64, f64, Option<f64>)> = BTreeMap::new();
    for line in page.lines() {
        let mut words = line.split(' ');
        match words.next().unwrap() {
            "#" => {
                let (what, name) = (words.next().unwrap(), words.next().unwrap());
                match what {
                    "HELP" => {
                        family = name;
                        assert!(words.next().is_some(), "{line}");
                    }
                    "TYPE" => {
                        assert_eq!(name, family);
                        kind = words.next().unwrap();
                        assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
                        assert!(words.next().is_none(), "{line}");
                        assert!(kinds.insert(name, kind).is_none(), "{name} twice");
                        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                    }
                    other => panic!("{other}"),
                }
            }
            _ => {
                let (labelled, value) = line.rsplit_once(' ').unwrap();
                assert!(samples.insert(labelled), "{labelled} twice");
                let value = value.parse::<f64>().unwrap();
                assert!(value >= 0.0 && value.is_finite(), "{line}");
                let (name, labels) = match labelled.split_once('{') {
                    Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
                    None => (labelled, ""),
                };
                if kind != "histogram" {
                    assert_eq!(name, family, "{line}");
                    continue;
                }
                let (labels, le) = match labels.split_once(",le=") {
                    Some((labels, le)) => (labels, Some(le.trim_matches('"').parse::<f64>().unwrap())),
                    None => (labels, None),
                };
                let seen = histograms.entry((family, labels.to_owned())).or_insert((-1.0, 0.0, None));
                match (name.strip_prefix(family).unwrap(), le) {
                    ("_bucket", Some(le)) => {
                        assert!(le > seen.0 && value >= seen.1, "buckets grow: {line}");
                        *seen = (le, value, None);
                    }
                    ("_sum", None) => {}
                    ("_count", None) => seen.2 = Some(value),
                    other => panic!("{other:?} in {line}"),
                }
            }
        }
    }
    for ((name, labels), (last, below, count)) in &histograms {
        assert!(last.is_infinite(), "{name} of {labels} has no bucket for all");
        assert_eq!(Some(*below), *count, "{name} of {labels}");
        assert!(samples.contains(format!("{name}_sum{{{labels}}}").as_str()), "{name} of {labels}");
    }
    assert_eq!(histograms.len(), 3, "of accounts, groups and rights");
    kinds
}

#[tokio::test]
async fn the_metrics_are_well_formed() {
    let stack = stack(MANAGED).await;
    check(&stack, add("calvin", &[], ready(HASH, None)), 0, json!({})).await;
    check(&stack, check_password("calvin", "hobbes"), 0, json!({})).await;
    check(&stack, check_password("secretive", "x"), 1, json!({})).await;
    check(&stack, check_group("calvin", "staff"), 1, json!({ "cache": "miss" })).await;
    check(&stack, check_group("calvin", "staff"), 1, json!({ "cache": "hit" })).await;
    let page = metrics::render(&stack, &stack.sources_now().await);
    let kinds = check_page(&page);
    assert!(page.ends_with('\n') && kinds.len() > 15);
    for sample in [
        "gatepost_logins_total{realm=\"default\",outcome=\"accepted\"} 1",
        "gatepost_logins_total{realm=\"default\",outcome=\"unknown_user\"} 1",
        "gatepost_source_up{source=\"local\"} 1",
        "gatepost_hash_pads_total 1",
        "gatepost_hash_skipped_total 0",
        "gatepost_memo_hits_total{realm=\"default\",source=\"local\"} 0",
        "gatepost_memo_entries{realm=\"default\",source=\"local\"} 0",
        "gatepost_hash_upgrades_total{realm=\"default\",source=\"local\"} 1",
        "gatepost_hash_upgrade_failures_total{realm=\"default\",source=\"local\"} 0",
        "gatepost_password_rechecks_total{realm=\"default\",source=\"local\"} 0",
        "gatepost_source_backing_off{source=\"local\"} 0",
        "gatepost_cache_bound_entries{realm=\"default\",source=\"local\",cache=\"groups\"} 294912",
        "gatepost_cache_age_at_hit_seconds_count{realm=\"default\",source=\"local\",cache=\"groups\"} 1",
        "gatepost_cache_age_at_hit_seconds_count{realm=\"default\",source=\"local\",cache=\"access\"} 0",
        "gatepost_cache_stale_total{realm=\"default\",source=\"local\",cache=\"accounts\"} 0",
        "gatepost_cache_overloaded_total{realm=\"default\",source=\"local\",cache=\"accounts\"} 0",
        "gatepost_cache_lifetime_seconds{realm=\"default\",source=\"local\",cache=\"accounts\"} 60.000000",
        "gatepost_cache_lifetime_seconds{realm=\"default\",source=\"local\",cache=\"access\"} 30.000000",
        "gatepost_cache_stale_limit_seconds{realm=\"default\",source=\"local\",cache=\"groups\"} 0.000000",
        "gatepost_memo_misses_total{realm=\"default\",source=\"local\"} 1",
        "gatepost_memo_evictions_total{realm=\"default\",source=\"local\"} 0",
        "gatepost_memo_bound_entries{realm=\"default\",source=\"local\"} 16384",
        "gatepost_owners_entries 1",
        "gatepost_owners_bound_entries 262144",
    ] {
        assert!(page.lines().any(|line| line == sample), "{sample} is not in {page}");
    }
    // Labels are names from configuration, never people.
    assert!(!page.contains("calvin") && !page.contains("secretive"));
}

/// The fields of statistics as their `Debug` shows them, but those that are no number.
fn numbers(stats: &impl std::fmt::Debug) -> Vec<(String, u64)> {
    let text = format!("{stats:#?}");
    // Deeper lines begin with more blanks.
    let fields =
        text.lines().filter_map(|line| line.strip_prefix("    ")?.strip_suffix(',')?.split_once(": "));
    let fields = fields.filter(|(name, _)| !name.starts_with(' '));
    fields.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
}

#[tokio::test]
async fn every_figure_of_a_cache_is_told_under_its_own_names() {
    let clock = ManualClock::new();
    let builder = Stack::builder().data("/nowhere").config(MANAGED);
    let stack = builder.clock(Arc::clone(&clock) as Arc<dyn Clock>).build().await.unwrap();
    check(&stack, add("calvin", &[], ready(HASH, None)), 0, json!({})).await;
    check(&stack, check_group("calvin", "staff"), 1, json!({ "cache": "miss" })).await;
    // Ages of which the half, nearly all and the greatest are three.
    for (later, hits) in [(1, 150), (100, 50), (4_000, 1)] {
        clock.advance(Duration::from_millis(later));
        for _ in 0..hits {
            check(&stack, check_group("calvin", "staff"), 1, json!({ "cache": "hit" })).await;
        }
    }
    let (_, report) = stack.caches().into_iter().find(|(_, report)| report.kind == "groups").unwrap();
    let mut stats = report.stats;
    stats.hits = 1_001;
    stats.negative_hits = 1_002;
    stats.stale = 1_003;
    stats.misses = 1_004;
    stats.coalesced = 1_005;
    stats.backed_off = 1_006;
    stats.overloaded = 1_007;
    stats.loads = 1_008;
    stats.refreshes = 1_009;
    stats.load_errors = 1_010;
    stats.under_way = 1_011;
    stats.timeouts = 1_012;
    stats.voided = 1_013;
    stats.expired = 1_014;
    stats.evictions = 1_015;
    stats.entries = 1_016;
    stats.bytes = 1_017;
    stats.bound = Some(Bound::Entries(1_018));
    stats.load_time = Duration::from_micros(2_001);
    stats.max_stale_age = Duration::from_millis(2_002);
    let (lifetime, stale_limit) = (Duration::from_millis(2_003), Duration::from_millis(2_004));
    let cache = |stats| figures::Cache { stats, lifetime, stale_limit };
    let row = ops::cache_row("r", "s", "groups", "ttl", &cache(stats));
    let mut page = metrics::Page::default();
    page.caches(&[([("realm", "r"), ("source", "s"), ("cache", "groups")], cache(stats))]);
    let mut told = 0;
    let mut tell = |key: &str, value: u64, name: &str, sample: &str| {
        assert_eq!(row[key], value, "{key} of {row}");
        let line = format!("gatepost_cache_{name}{{realm=\"r\",source=\"s\",cache=\"groups\"}} {sample}");
        assert!(page.0.lines().any(|known| known == line), "{line} is not in {}", page.0);
        told += 1;
    };
    let numbers_of_cache = numbers(&stats);
    assert_eq!(numbers_of_cache.len(), 17, "{stats:?}");
    for (field, value) in &numbers_of_cache {
        assert!(*value > 1_000, "{field} has no value of its own");
        let name = match field.as_str() {
            "entries" | "bytes" => field.clone(),
            "under_way" => s("loads_under_way"),
            "timeouts" => s("load_timeouts_total"),
            other => format!("{other}_total"),
        };
        tell(field, *value, &name, &value.to_string());
    }
    tell("load_us", 2_001, "load_seconds_total", "0.002001");
    tell("max_stale_age_ms", 2_002, "stale_age_max_seconds", "2.002000");
    tell("lifetime_ms", 2_003, "lifetime_seconds", "2.003000");
    tell("stale_limit_ms", 2_004, "stale_limit_seconds", "2.004000");
    tell("max_age_ms", 4_101, "age_at_hit_max_seconds", "4.101000");
    assert_eq!(told, figures::CACHE.len());
    assert_eq!((&row["age_p50_ms"], &row["age_p99_ms"]), (&json!(1), &json!(128)));
    assert_eq!(
        (&row["bound"], &row["cache"], &row["kind"]),
        (&json!({ "entries": 1_018 }), &json!("groups"), &json!("ttl"))
    );
    assert_eq!((&row["realm"], &row["source"]), (&json!("r"), &json!("s")));
    let labels = "{realm=\"r\",source=\"s\",cache=\"groups\"";
    for line in [
        format!("gatepost_cache_bound_entries{labels}}} 1018"),
        format!("gatepost_cache_age_at_hit_seconds_bucket{labels},le=\"0.001\"}} 150"),
        format!("gatepost_cache_age_at_hit_seconds_count{labels}}} 201"),
    ] {
        assert!(page.0.lines().any(|known| known == line), "{line} is not in {}", page.0);
    }
    stats.bound = Some(Bound::Bytes(1_019));
    let mut page = metrics::Page::default();
    page.caches(&[([("realm", "r"), ("source", "s"), ("cache", "groups")], cache(stats))]);
    assert!(page.0.contains(&format!("\ngatepost_cache_bound_bytes{labels}}} 1019\n")), "{}", page.0);
    assert!(!page.0.contains(&format!("gatepost_cache_bound_entries{labels}")), "{}", page.0);
}

#[test]
fn every_figure_of_remembered_passwords_is_told_under_its_own_names() {
    let mut stats = HashedStats::default();
    stats.memo_hits = 1_001;
    stats.memo_misses = 1_002;
    stats.memo_evictions = 1_003;
    stats.memo_entries = 1_004;
    stats.memo_bound = 1_005;
    stats.rechecks = 1_006;
    stats.upgrades = 1_007;
    stats.upgrade_failures = 1_008;
    assert_eq!(numbers(&stats).len(), 8, "{stats:?}");
    assert!(numbers(&stats).iter().all(|(_, value)| *value > 1_000), "{stats:?}");
    let row = ops::memo_row("r", "s", &stats);
    let told = json!({
        "realm": "r", "source": "s", "cache": "memo", "kind": "memo", "hits": 1_001, "misses": 1_002,
        "evictions": 1_003, "entries": 1_004, "bound": { "entries": 1_005 }, "rechecks": 1_006,
    });
    assert_eq!(row, told);
    let mut page = metrics::Page::default();
    page.memos(&[([("realm", "r"), ("source", "s")], stats)]);
    let mut samples: Vec<&str> = page.0.lines().filter(|line| !line.starts_with('#')).collect();
    samples.sort_unstable();
    let named = [
        ("gatepost_hash_upgrade_failures_total", 1_008),
        ("gatepost_hash_upgrades_total", 1_007),
        ("gatepost_memo_bound_entries", 1_005),
        ("gatepost_memo_entries", 1_004),
        ("gatepost_memo_evictions_total", 1_003),
        ("gatepost_memo_hits_total", 1_001),
        ("gatepost_memo_misses_total", 1_002),
        ("gatepost_password_rechecks_total", 1_006),
    ];
    let named = named.map(|(name, value)| format!("{name}{{realm=\"r\",source=\"s\"}} {value}"));
    assert_eq!(samples, named);
}

#[test]
fn every_figure_of_what_is_shared_is_told_under_its_own_names() {
    let mut shared = SharedStats::default();
    shared.hits = 1_001;
    shared.misses = 1_002;
    shared.voided = 1_003;
    shared.expired = 1_004;
    shared.forged = 1_005;
    shared.foreign = 1_006;
    shared.errors = 1_007;
    shared.skipped = 1_008;
    shared.stored = 1_009;
    shared.outdated = 1_010;
    shared.too_large = 1_011;
    shared.store_errors = 1_012;
    let mut hearing = HearingStats::default();
    hearing.deaf = true;
    hearing.heard = 1_013;
    hearing.losses = 1_014;
    hearing.unread = 1_015;
    let mut carried = CarrierStats::default();
    carried.told = 1_016;
    carried.waiting = 1_017;
    carried.failures = 1_018;
    carried.given_up = 1_019;
    let lanes = figures::Lanes { up: 1_020, left_alone: 1_021, behind: 1_022 };

    let mut page = metrics::Page::default();
    let labels = [("realm", "r"), ("source", "s"), ("cache", "groups")];
    page.shared(&[(labels, shared)], Some(("redis", lanes)), Some(("redis", hearing)), carried);
    let mut samples: BTreeSet<String> =
        page.0.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();

    let row = ops::with_shared(json!({ "cache": "groups" }), Some(&shared));
    let numbers_of_shared = numbers(&shared);
    assert_eq!(numbers_of_shared.len(), 12, "{shared:?}");
    for (field, value) in &numbers_of_shared {
        assert!(*value > 1_000, "{field} has no value of its own");
        assert_eq!(row[format!("shared_{field}")], *value, "{field} of {row}");
        let sample = format!(
            "gatepost_shared_cache_{field}_total{{realm=\"r\",source=\"s\",cache=\"groups\"}} {value}"
        );
        assert!(samples.remove(&sample), "{sample} is not in {}", page.0);
    }
    assert_eq!(row.as_object().unwrap().len(), 13, "{row}");
    assert_eq!(ops::with_shared(json!({ "hits": 1 }), None), json!({ "hits": 1 }));

    assert_eq!((numbers(&hearing).len(), numbers(&carried).len(), numbers(&lanes).len()), (3, 4, 3));
    let lanes_row =
        json!({ "cache": "shared", "kind": "redis", "up": 1_020, "left_alone": 1_021, "behind": 1_022 });
    let carried_row = json!({ "told": 1_016, "waiting": 1_017, "failures": 1_018, "given_up": 1_019 });
    let heard_row = json!({ "deaf": true, "heard": 1_013, "losses": 1_014, "unread": 1_015 });
    let named = |kind: &str, parts: &[&Value]| -> Value {
        let mut row = json!({ "cache": "bus", "kind": kind });
        for part in parts {
            row.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
        }
        row
    };
    assert_eq!(
        ops::shared_rows(Some(("redis", lanes)), Some(("redis", hearing)), &carried),
        [lanes_row, named("redis", &[&heard_row, &carried_row])]
    );
    assert_eq!(ops::shared_rows(None, None, &carried), [named("none", &[&carried_row])]);
    for (name, value) in [
        ("gatepost_shared_cache_lanes_up{kind=\"redis\"}", 1_020),
        ("gatepost_shared_cache_lanes_left_alone{kind=\"redis\"}", 1_021),
        ("gatepost_shared_cache_lanes_behind{kind=\"redis\"}", 1_022),
        ("gatepost_bus_deaf{kind=\"redis\"}", 1),
        ("gatepost_bus_heard_total{kind=\"redis\"}", 1_013),
        ("gatepost_bus_losses_total{kind=\"redis\"}", 1_014),
        ("gatepost_bus_unread_total{kind=\"redis\"}", 1_015),
        ("gatepost_invalidations_carried_total", 1_016),
        ("gatepost_invalidations_waiting", 1_017),
        ("gatepost_invalidations_failed_attempts_total", 1_018),
        ("gatepost_invalidations_given_up_total", 1_019),
    ] {
        assert!(samples.remove(&format!("{name} {value}")), "{name} {value} is not in {}", page.0);
    }
    assert_eq!(samples, BTreeSet::new(), "what else is told");
}

#[tokio::test]
async fn a_shared_cache_is_reported_probed_and_told_to_be_down() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    let text = format!(
        "{MANAGED}[cache]\nkind = \"tiered\"\nurl = \"{}\"\ntimeout = \"2s\"\nconnect_timeout = \"2s\"\n\
         [secrets]\ncache_key = \"0123456789abcdef0123456789abcdef\"\n",
        redis.url()
    );
    let stack = stack(&text).await;
    let probe = || ops::run(&stack, Command::Sources { probe: true });
    let reply = probe().await;
    let shared = reply.rows.last().unwrap();
    assert_eq!(reply.exit, 0, "{:?}", reply.rows);
    assert_eq!(
        *shared,
        json!({ "cache": "shared", "kind": "redis", "state": "up", "last_error": Value::Null })
    );
    let beside = ops::run(&stack, Command::Sources { probe: false }).await;
    assert_eq!(beside.rows.len() + 1, reply.rows.len(), "only who probes asks it");

    check(&stack, add("calvin", &[], ready(HASH, None)), 0, json!({})).await;
    check(&stack, check_group("calvin", "staff"), 1, json!({ "cache": "miss" })).await;
    let row = |name: &'static str| {
        let stack = Arc::clone(&stack);
        async move {
            let mut stats = ops::run(&stack, Command::CacheStats).await.rows;
            stats.retain(|row| row["cache"] == name);
            assert_eq!(stats.len(), 1, "{name}");
            stats.remove(0)
        }
    };
    let groups = row("groups").await;
    assert_eq!((&groups["shared_misses"], &groups["shared_hits"]), (&json!(1), &json!(0)), "{groups}");
    assert!(row("fence").await.get("shared_hits").is_none());
    let lanes = json!({ "cache": "shared", "kind": "redis", "up": 1, "left_alone": 0, "behind": 0 });
    assert_eq!(row("shared").await, lanes);
    let bus = row("bus").await;
    assert_eq!(
        (&bus["kind"], &bus["heard"], &bus["waiting"]),
        (&json!("redis"), &json!(0), &json!(0)),
        "{bus}"
    );
    assert!(bus["told"].as_u64().unwrap() > 0, "of the user who was added: {bus}");
    let page = metrics::render(&stack, &stack.sources_now().await);
    check_page(&page);
    for sample in [
        "gatepost_shared_cache_misses_total{realm=\"default\",source=\"local\",cache=\"groups\"} 1",
        "gatepost_shared_cache_lanes_up{kind=\"redis\"} 1",
        "gatepost_bus_heard_total{kind=\"redis\"} 0",
        "gatepost_invalidations_given_up_total 0",
    ] {
        assert!(page.lines().any(|line| line == sample), "{sample} is not in {page}");
    }
    assert!(!page.contains("calvin"));

    redis.kill();
    let reply = probe().await;
    let shared = reply.rows.last().unwrap();
    assert_eq!((reply.exit, &shared["state"]), (3, &json!("down")), "{:?}", reply.rows);
    assert!(shared["last_error"].as_str().unwrap().contains("unavailable"), "{shared}");
    assert_eq!(reply.rows[0]["state"], "up", "the source is");
}
