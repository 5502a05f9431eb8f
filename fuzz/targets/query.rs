//! Any query and any path is something or a sentence; what is understood has what a process needs.
#![no_main]

use exec_endpoint::protocol::kubernetes::query::Query;
use exec_endpoint::protocol::kubernetes::route::Route;
use exec_endpoint::protocol::kubernetes::selector::Selector;
use exec_endpoint::protocol::remotecommand::query::{attach, exec, signal};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match exec(text) {
        Ok(query) => {
            assert!(!query.command[0].is_empty());
            let texts =
                query.command.iter().chain(query.environment.iter().flat_map(|(name, value)| [name, value]));
            assert!(texts.chain(&query.user).chain(&query.folder).all(|text| !text.contains('\0')));
            assert!(query.environment.iter().all(|(name, _)| !name.is_empty() && !name.contains('=')));
            assert!(query.size.is_none_or(|size| query.streams.tty && size.rows > 0 && size.columns > 0));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(streams) = attach(text) {
        assert!(streams.stdin || streams.stdout || streams.stderr || streams.tty);
    }
    if let Ok(query) = signal(text) {
        assert!((1..=64).contains(&query.signal));
    }
    if let Ok(query) = Query::parse(text) {
        let _ = (query.boolean("watch"), query.number("limit"), query.text("container"));
    }
    for selector in [Selector::labels(text), Selector::fields(text, &["metadata.name", "status.phase"])] {
        let _ = selector.map(|selector| selector.holds(|_| Some("value")));
    }
    let _ = Route::parse(&"GET".parse().expect("a method"), text);
});
