//! A process in a cgroup of its own below its task's: a check, or a session from outside.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::workplace::Workplace;
use crate::cgroup::{CgroupName, Limits};
use crate::pod::client::Child;
use crate::pod::protocol::Spawn;

/// Makes the cgroup and starts the process in it. Who calls this clears the cgroup, whatever comes of it.
///
/// # Errors
/// A sentence that says which step failed: the pod's init's own words where it was one of its steps.
pub async fn spawn(
    workplace: &Arc<Workplace>,
    name: &CgroupName,
    mut request: Spawn,
    stdio: [OwnedFd; 3],
) -> Result<Child, String> {
    let (blocking, cgroup) = (workplace.clone(), name.clone());
    let made = move || {
        blocking.cgroups.create(&cgroup, &Limits::default())?;
        blocking.cgroups.entry(&cgroup)
    };
    let entry = tokio::task::spawn_blocking(made)
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
    request.into_cgroup = entry.into.is_some();
    let descriptors = stdio.into_iter().chain(entry.into).chain(entry.tasks).collect();
    let living = workplace.pod.current().await.ok_or("the pod ended")?;
    living.pod.spawn(request, descriptors).await.map_err(|error| error.to_string())
}
