//! Accounts and groups by name or number, looked up on the host.

use std::ffi::CString;

use nix::unistd::{Gid, Group, User, getgrouplist};

use crate::pod::protocol::Account;
use crate::spec::Identity;

/// An account as a task's process and environment need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Its numbers.
    pub account: Account,
    /// Its name and home folder, if it is in the host's list.
    pub listed: Option<(String, String)>,
}

/// Looks the account of a task up. `None` if the task asks for none: it runs as the executor does.
///
/// # Errors
/// A sentence that names the account or group that is not there.
pub fn look_up(identity: &Identity) -> Result<Option<Person>, String> {
    if identity.user.is_none() && identity.groups.is_empty() {
        return Ok(None);
    }
    let name = identity.user.as_deref().unwrap_or("0");
    let mut person = user(name)?;
    for group in &identity.groups {
        let gid = group_id(group)?;
        if !person.account.groups.contains(&gid) {
            person.account.groups.push(gid);
        }
    }
    Ok(Some(person))
}

/// A name that no account or group of the host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    /// The user.
    User(String),
    /// One of the groups.
    Group {
        /// Its place among them.
        index: usize,
        /// Its name.
        name: String,
    },
}

/// The first name of an identity that is not there. Numbers need not be; a lookup that fails says nothing.
pub fn unknown(identity: &Identity) -> Option<Unknown> {
    let is_number = |name: &str| name.parse::<u32>().is_ok();
    let user = identity.user.as_ref().filter(|name| !is_number(name));
    if let Some(name) = user.filter(|name| matches!(User::from_name(name), Ok(None))) {
        return Some(Unknown::User(name.clone()));
    }
    let mut groups = identity.groups.iter().enumerate().filter(|(_, name)| !is_number(name));
    let (index, name) = groups.find(|(_, name)| matches!(Group::from_name(name), Ok(None)))?;
    Some(Unknown::Group { index, name: name.clone() })
}

fn user(name: &str) -> Result<Person, String> {
    let number = name.parse::<u32>().ok();
    let found = match number {
        Some(uid) => User::from_uid(uid.into()),
        None => User::from_name(name),
    };
    match (found.map_err(|errno| format!("look up user {name}: {errno}"))?, number) {
        (Some(user), _) => {
            let c_name =
                CString::new(user.name.as_str()).map_err(|error| format!("look up user {name}: {error}"))?;
            let groups = getgrouplist(&c_name, user.gid)
                .map_err(|errno| format!("look up the groups of {name}: {errno}"))?;
            let groups = groups.into_iter().map(Gid::as_raw).collect();
            let account = Account { uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups };
            Ok(Person { account, listed: Some((user.name, user.dir.to_string_lossy().into_owned())) })
        }
        (None, Some(uid)) => {
            Ok(Person { account: Account { uid, gid: uid, groups: vec![uid] }, listed: None })
        }
        (None, None) => Err(format!("user {name} does not exist on this host")),
    }
}

fn group_id(name: &str) -> Result<u32, String> {
    if let Ok(gid) = name.parse() {
        return Ok(gid);
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(format!("group {name} does not exist on this host")),
        Err(errno) => Err(format!("look up group {name}: {errno}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(user: Option<&str>, groups: &[&str]) -> Identity {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        Identity { user: user.map(str::to_owned), groups, ..Identity::default() }
    }

    #[test]
    fn a_task_that_asks_for_no_account_keeps_the_executors() {
        assert_eq!(look_up(&identity(None, &[])), Ok(None));
    }

    #[test]
    fn supplementary_groups_are_added_to_those_of_the_account() {
        let person = look_up(&identity(Some("nobody"), &["daemon", "4242"])).unwrap().unwrap();
        assert_eq!(person.account.uid, 65534);
        assert!(person.account.groups.contains(&4242) && person.account.groups.contains(&1));
    }

    #[test]
    fn a_number_without_an_account_is_user_and_group() {
        let person = look_up(&identity(Some("4242"), &[])).unwrap().unwrap();
        assert_eq!(person.account, Account { uid: 4242, gid: 4242, groups: vec![4242] });
    }

    #[test]
    fn an_unknown_name_is_named() {
        assert_eq!(
            look_up(&identity(Some("nemo"), &[])),
            Err("user nemo does not exist on this host".to_owned())
        );
        assert_eq!(
            look_up(&identity(None, &["nemo"])),
            Err("group nemo does not exist on this host".to_owned())
        );
    }
}
