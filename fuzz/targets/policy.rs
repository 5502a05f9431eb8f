//! A policy is rules or a sentence; and no policy gives anything to somebody it does not name.
#![no_main]

use exec_endpoint::identity::{Tokens, Who};
use exec_endpoint::policy::{Policy, Target, Verb, Verdict};
use libfuzzer_sys::fuzz_target;

const STRANGER: &str = "\u{1}stranger";

fuzz_target!(|text: &str| {
    let target = Target { framework: "prod/kubernetes", pod: "etcd-0", task: "etcd-0-peer" };
    match Policy::parse(text) {
        Ok(policy) => {
            let stranger = Who { user: STRANGER.to_owned(), groups: Vec::new() };
            for verb in [Verb::List, Verb::Exec, Verb::RunAs("root".to_owned())] {
                let allowed =
                    matches!(policy.decide(&stranger, &verb, Some(&target)), Verdict::Allowed { .. });
                assert!(!allowed || text.contains(['*', '\\']), "only everybody is a stranger, too");
                assert!(!allowed || policy.sees(&stranger, &target));
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let _ = Tokens::parse(text).map(|tokens| tokens.find(text));
});
