//! What maintenance has left of the model's samples: read from the store, once it is found that nothing else is missing.

use super::*;

type ByTime = BTreeMap<i64, Vec<Row>>;

impl World {
    /// The stream without what maintenance was allowed to delete and has deleted.
    pub(super) fn survivors(
        &self,
        reader: &Reader,
        entry: &TableEntry,
        instance: InstanceId,
        stream: &Stream,
    ) -> Stream {
        let names = widest_names(table_of(entry));
        let asked = asked(entry, &names);
        let mut columns = vec!["time".to_owned()];
        columns.extend(asked.iter().cloned());
        let request = ScanRequest {
            columns: Some(columns),
            ..everything(entry.id, vec![instance])
        };
        let mut rows = ByTime::new();
        for row in scan_all(reader, request) {
            let Value::Int(ns) = row[0] else {
                panic!("a row without its time")
            };
            rows.entry(ns.try_into().unwrap()).or_default().push(row[1..].to_vec());
        }
        rows.values_mut().for_each(|rows| rows.sort());
        if entry.schema.kind == TableKind::Event {
            let left = |(t, _): &&(i64, Row)| *t >= self.expired_before || rows.contains_key(t);
            return Stream {
                events: stream.events.iter().filter(left).cloned().collect(),
                ..Stream::default()
            };
        }
        let mut left = Vec::new();
        let mut times: Vec<i64> = stream.samples.iter().map(|s| s.time_ns).collect();
        times.sort();
        times.dedup();
        for time_ns in times {
            // A picture without rows is in no scan; AS OF tells whether it is there.
            let is_there = || {
                let got = reader.as_of(entry.id, instance, time_ns, Some(&[])).unwrap();
                got.is_some_and(|p| p.time_ns == time_ns)
            };
            let known: Vec<(usize, &Known)> =
                (stream.samples.iter().enumerate().filter(|(_, s)| s.time_ns == time_ns)).collect();
            let got = rows.remove(&time_ns).unwrap_or_default();
            let of = |chosen: &[(usize, &Known)]| {
                let pictures = chosen.iter().flat_map(|(_, s)| s.picture.values());
                let mut rows: Vec<Row> = pictures.map(|r| only(&names, &asked, r)).collect();
                rows.sort();
                rows == got
            };
            // Some of several at one time, in blocks that overlap.
            let subsets = (0..1usize << known.len()).rev().map(|mask| {
                let chosen = known.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1);
                chosen.map(|(_, k)| *k).collect::<Vec<_>>()
            });
            let mut chosen = subsets.into_iter().find(|chosen| of(chosen)).expect("its own rows");
            if got.is_empty() && !is_there() {
                chosen.clear();
            }
            left.extend(chosen.into_iter().map(|(i, _)| i));
        }
        assert!(rows.is_empty(), "rows of times that are not known");
        self.nothing_else_is_missing(stream, &left);
        left.sort();
        Stream {
            samples: left.into_iter().map(|i| stream.samples[i].clone()).collect(),
            ..Stream::default()
        }
    }

    fn nothing_else_is_missing(&self, stream: &Stream, left: &[usize]) {
        let times: Vec<i64> = left.iter().map(|i| stream.samples[*i].time_ns).collect();
        for (i, sample) in stream.samples.iter().enumerate() {
            let first_of_step = |every: u64| {
                let step = |t: i64| t.div_euclid(every as i64);
                let known = stream.samples.iter().map(|s| s.time_ns);
                let first = known.filter(|t| step(*t) == step(sample.time_ns)).min().unwrap();
                times.contains(&first) || self.may_lack(first, every)
            };
            let mut thinned = self.thinned_before.iter();
            assert!(
                left.contains(&i)
                    || sample.time_ns < self.expired_before
                    || thinned.any(|(every, before)| sample.time_ns < *before && first_of_step(*every)),
                "the sample at {} is missing",
                sample.time_ns - START
            );
        }
    }

    /// The first of a step may itself be missing when it is older, or by the rules of another grid.
    fn may_lack(&self, time_ns: i64, every: u64) -> bool {
        let mut others = self.thinned_before.iter().filter(|(e, _)| **e != every);
        time_ns < self.expired_before || others.any(|(_, before)| time_ns < *before)
    }
}
