//! Access files of any bytes: rules, or faults that name their lines; and what they decide is decided again.
#![no_main]
use libfuzzer_sys::fuzz_target;
use access::{Access, Acl, Who};
use mqtt::Topic;

fuzz_target!(|data: (&str, &str, Option<&str>, &str)| {
    let (text, topic, user, client_id) = data;
    match Acl::parse(text) {
        Err(faults) => {
            let lines = text.lines().count();
            assert!(!faults.is_empty() && faults.iter().all(|fault| (1..=lines).contains(&fault.line)));
        }
        Ok(acl) => {
            let Ok(topic) = Topic::parse(topic) else { return };
            for access in [Access::Read, Access::Write] {
                let decide = || acl.decide(Who { user, client_id }, access, topic).allowed;
                assert_eq!(decide(), decide());
            }
        }
    }
});
