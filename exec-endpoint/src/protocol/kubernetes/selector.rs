//! Label and field selectors: pure.
//!
//! ```text
//!  a=b, a==b, a!=b, a in (b,c), a notin (b,c), a, !a          (all must hold)
//! ```

/// It cannot be read, or asks for a field that nobody can ask for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Not a selector.
    #[error("unable to parse requirement: {0:?}")]
    Syntax(String),
    /// No such field.
    #[error("field label not supported: {0}")]
    Field(String),
}

/// All that must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    needs: Needs,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Needs {
    Is(Vec<String>),
    IsNot(Vec<String>),
    There,
    NotThere,
}

impl Selector {
    /// A label selector.
    ///
    /// # Errors
    /// [`SelectorError::Syntax`].
    pub fn labels(text: &str) -> Result<Self, SelectorError> {
        split(text).into_iter().map(requirement).collect::<Result<_, _>>().map(Self)
    }

    /// A field selector over these fields.
    ///
    /// # Errors
    /// [`SelectorError`].
    pub fn fields(text: &str, known: &[&str]) -> Result<Self, SelectorError> {
        let this = Self::labels(text)?;
        for requirement in &this.0 {
            if !known.contains(&requirement.key.as_str()) {
                return Err(SelectorError::Field(requirement.key.clone()));
            }
        }
        Ok(this)
    }

    /// Whether all holds of something with these values.
    pub fn holds<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|requirement| {
            let found = value(&requirement.key);
            let among = |all: &[String]| found.is_some_and(|found| all.iter().any(|one| one == found));
            match &requirement.needs {
                Needs::Is(all) => among(all),
                Needs::IsNot(all) => !among(all),
                Needs::There => found.is_some(),
                Needs::NotThere => found.is_none(),
            }
        })
    }
}

/// At commas that are not in parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    let parts = text.split(|letter| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn requirement(text: &str) -> Result<Requirement, SelectorError> {
    let wrong = || SelectorError::Syntax(text.to_owned());
    let set = |rest: &str| {
        let inside = rest.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(inside.split(',').map(|value| value.trim().to_owned()).collect::<Vec<_>>())
    };
    let (key, needs) = if let Some((key, value)) = text.split_once("!=") {
        (key, Needs::IsNot(vec![value.trim().to_owned()]))
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (key, Needs::Is(vec![value.trim().to_owned()]))
    } else if let Some((key, rest)) = text
        .split_once(" notin ")
        .or_else(|| text.split_once(" notin(").map(|(key, _)| (key, &text[key.len() + 6..])))
    {
        (key, Needs::IsNot(set(rest).ok_or_else(wrong)?))
    } else if let Some((key, rest)) = text
        .split_once(" in ")
        .or_else(|| text.split_once(" in(").map(|(key, _)| (key, &text[key.len() + 3..])))
    {
        (key, Needs::Is(set(rest).ok_or_else(wrong)?))
    } else if let Some(key) = text.strip_prefix('!') {
        (key, Needs::NotThere)
    } else {
        (text, Needs::There)
    };
    let key = key.trim();
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
    if key.is_empty() || !key.chars().all(fits) {
        return Err(wrong());
    }
    Ok(Requirement { key: key.to_owned(), needs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn holds(selector: &str) -> bool {
        Selector::labels(selector).unwrap().holds(|key| match key {
            "app" => Some("etcd"),
            "tier/x" => Some("1"),
            _ => None,
        })
    }

    #[test]
    fn each_kind_of_requirement_holds_when_it_should() {
        for yes in [
            "",
            "app=etcd",
            "app == etcd,tier/x=1",
            "app!=x",
            "none!=x",
            "app in (a, etcd)",
            "app notin (a,b)",
            "none notin(a)",
            "app",
            "!none",
            "app in(etcd),!none",
        ] {
            assert!(holds(yes), "{yes}");
        }
        for no in [
            "app=x",
            "app!=etcd",
            "app in (a,b)",
            "app notin (etcd)",
            "none",
            "!app",
            "app=etcd,none=1",
            "none in (a)",
        ] {
            assert!(!holds(no), "{no}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for wrong in ["=a", "a b", "a in b", "a in (b", "!", "a>1"] {
            assert!(Selector::labels(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            Selector::fields("spec.x=1", &["metadata.name"]),
            Err(SelectorError::Field("spec.x".into()))
        );
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".*") {
            let _ = Selector::labels(&text).map(|selector| selector.holds(|_| Some("a")));
        }
    }
}
