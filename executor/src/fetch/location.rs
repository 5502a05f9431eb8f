//! Where a redirect leads (RFC 3986, section 5).

use hyper::Uri;

/// The URL that `location` means, coming from `base`; `None` when it is none for http or https.
pub(super) fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.trim().split('#').next().unwrap_or_default();
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let path = base.path();
    let text = if has_scheme(location) {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{}", normal(location))
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{path}{location}")
    } else if location.is_empty() {
        base.to_string()
    } else {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{}", normal(&format!("{folder}/{location}")))
    };
    let uri: Uri = text.parse().ok()?;
    let usable =
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty());
    usable.then_some(uri)
}

fn has_scheme(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|one: char| one.is_ascii_alphabetic())
            && scheme.chars().all(|one| one.is_ascii_alphanumeric() || matches!(one, '+' | '-' | '.'))
    })
}

/// The path without `.` and `..`, its query as it is.
fn normal(text: &str) -> String {
    let (path, query) = text.find('?').map_or((text, ""), |start| text.split_at(start));
    let mut parts: Vec<&str> = Vec::new();
    let all: Vec<&str> = path.split('/').skip(1).collect();
    for (index, part) in all.iter().enumerate() {
        let last = index + 1 == all.len();
        match *part {
            ".." => {
                parts.pop();
                if last {
                    parts.push("");
                }
            }
            "." if last => parts.push(""),
            "." => {}
            other => parts.push(other),
        }
    }
    format!("/{}{query}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_kind_of_reference_is_resolved() {
        let base: Uri = "http://h:1/a/b/c?d".parse().unwrap();
        let to = |location: &str| resolve(&base, location).map(|uri| uri.to_string());
        let cases = [
            ("https://other/x?y#z", Some("https://other/x?y")),
            ("//other:2/x", Some("http://other:2/x")),
            ("/x/./y/../z?q=/../", Some("http://h:1/x/z?q=/../")),
            ("x", Some("http://h:1/a/b/x")),
            ("../x", Some("http://h:1/a/x")),
            ("../../../../x", Some("http://h:1/x")),
            ("..", Some("http://h:1/a/")),
            ("?q", Some("http://h:1/a/b/c?q")),
            ("#f", Some("http://h:1/a/b/c?d")),
            ("ftp://other/x", None),
            ("http://", None),
            ("x y", None),
        ];
        for (location, expected) in cases {
            assert_eq!(to(location).as_deref(), expected, "{location}");
        }
    }

    proptest! {
        #[test]
        fn no_location_makes_it_panic(location in ".{0,40}") {
            let _ = resolve(&"http://h/a/b".parse().unwrap(), &location);
        }
    }
}
