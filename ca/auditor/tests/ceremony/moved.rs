//! Entries that are put in, or moved.

use serde_json::{Value, json};

use crate::log::Log;

impl Log {
    /// Puts an entry in as if it had always been there: those behind it move down.
    pub(crate) fn insert(&mut self, at: u64, kind: &str, body: Value) {
        let moved = |index: u64| if index >= at { index + 1 } else { index };
        let own = json!({
            "v": 1,
            "origin": self.origin.as_str(),
            "index": at,
            "time": self.value(at - 1)["time"],
            "kind": kind,
            "body": body,
        });
        self.entries.insert(at as usize, serde_json::to_vec(&own).unwrap());
        for index in at + 1..self.entries.len() as u64 {
            self.edit(index, |value| {
                value["index"] = json!(index);
                if let Some(intent) = value["body"]["intent"].as_u64() {
                    value["body"]["intent"] = json!(moved(intent));
                }
            });
        }
        self.count_uses();
    }

    /// Moves an entry to another place. Times stay where they are.
    pub(crate) fn move_entry(&mut self, from: u64, to: u64) {
        let times: Vec<_> =
            (0..self.entries.len() as u64).map(|index| self.value(index)["time"].clone()).collect();
        let entry = self.entries.remove(from as usize);
        self.entries.insert(to as usize, entry);
        for (index, time) in (0..).zip(times) {
            self.edit(index, |value| {
                value["index"] = json!(index);
                value["time"] = time;
            });
        }
    }

    /// Numbers the uses of each key.
    fn count_uses(&mut self) {
        let mut uses = std::collections::BTreeMap::<String, u64>::new();
        for index in self.all("intent") {
            self.edit(index, |value| {
                let used = uses.entry(value["body"]["key_id"].to_string()).or_default();
                *used += 1;
                value["sequence"] = json!(*used);
            });
        }
    }
}
