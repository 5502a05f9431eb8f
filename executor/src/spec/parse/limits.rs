//! Resources and limits of a task -> limits of its cgroup, by the formulas of Mesos's `cgroups/cpu` and `cgroups/mem`.

use mesos::common::{Resource, TaskInfo};

use crate::cgroup::Limits;
use crate::spec::SpecError;
use crate::spec::field::Field;

/// Mesos counts resources in thousandths, and so do we: sums are exact.
const THOUSANDTHS: f64 = 1000.0;
const MEBIBYTE: u64 = 1 << 20;
/// No task gets less memory.
const LEAST_MEMORY: u64 = 32 * MEBIBYTE;
/// The kernel's `PID_MAX_LIMIT`.
const MOST_PIDS: u64 = 4 << 20;
const MOST_CPUS: f64 = 1e6;
/// 2^53 bytes.
const MOST_MEBIBYTES: f64 = 8_589_934_592.0;

/// A limit that a framework sets besides the resource it takes.
enum Cap {
    Unset,
    Infinite,
    Thousandths(u64),
}

/// The limits of the task's cgroup.
pub(super) fn limits(info: &TaskInfo, pids: Option<u64>) -> Result<Limits, SpecError> {
    let caps = Field::new("limits");
    if let Some((name, raw)) = info.limits.iter().find(|(name, _)| !matches!(name.as_str(), "cpus" | "mem")) {
        return Err(caps.child(name).error(raw.value, "must be cpus or mem: nothing else has a limit"));
    }
    other_resources(&info.resources)?;
    let cpus = sum(info, "cpus", MOST_CPUS)?;
    let memory = sum(info, "mem", MOST_MEBIBYTES)?;
    let cpu_cap = cap(info, "cpus", cpus, MOST_CPUS)?;
    let memory_cap = cap(info, "mem", memory, MOST_MEBIBYTES)?;
    if let Some(value) = pids.filter(|pids| !(1..=MOST_PIDS).contains(pids)) {
        return Err(Field::new("data.pids").error(value, format!("must be from 1 to {MOST_PIDS}")));
    }
    Ok(Limits {
        cpu_shares: cpus.map(|thousandths| (thousandths * 1024 / 1000).max(2)),
        cpu_quota: match cpu_cap {
            Cap::Thousandths(thousandths) => Some((thousandths * 100).max(1000)),
            Cap::Infinite | Cap::Unset => None,
        },
        memory_soft: memory.map(memory_bytes),
        memory_hard: match memory_cap {
            Cap::Thousandths(thousandths) => Some(memory_bytes(thousandths)),
            Cap::Infinite => None,
            Cap::Unset => memory.map(memory_bytes),
        },
        pids,
    })
}

/// The role that a task's resources were allocated to.
pub(super) fn role(resources: &[Resource]) -> Option<String> {
    resources.iter().find_map(|resource| resource.allocation_info.as_ref()?.role.clone())
}

/// Amounts that are not used here must be amounts all the same.
fn other_resources(resources: &[Resource]) -> Result<(), SpecError> {
    for (index, resource) in resources.iter().enumerate() {
        let field = Field::new("resources").index(index);
        let named = matches!(resource.name.as_str(), "cpus" | "mem");
        if !matches!(resource.kind.as_str(), "SCALAR" | "RANGES" | "SET")
            || named && resource.kind != "SCALAR"
        {
            let allowed = if named { "must be SCALAR" } else { "must be SCALAR, RANGES or SET" };
            return Err(field.child("type").error(&resource.kind, allowed));
        }
        if resource.kind == "SCALAR" {
            let field = field.child("scalar");
            let scalar = resource.scalar.ok_or_else(|| field.missing("must be set for a SCALAR"))?;
            amount(scalar.value, f64::MAX, &field.child("value"))?;
        }
    }
    Ok(())
}

/// What all resources of one name come to, in thousandths; `None` without any.
fn sum(info: &TaskInfo, name: &str, most: f64) -> Result<Option<u64>, SpecError> {
    let mut total = None;
    for (index, resource) in info.resources.iter().enumerate().filter(|(_, resource)| resource.name == name) {
        let field = Field::new("resources").index(index).child("scalar").child("value");
        let value = resource.scalar.map_or(0.0, |scalar| scalar.value);
        let sum = total.unwrap_or(0) + amount(value, most, &field)?;
        #[expect(clippy::cast_precision_loss, reason = "only compared with a bound that is far above")]
        if sum as f64 > most * THOUSANDTHS {
            return Err(field.error(value, format!("must not bring the sum of {name} above {most}")));
        }
        total = Some(sum);
    }
    Ok(total)
}

fn cap(info: &TaskInfo, name: &str, request: Option<u64>, most: f64) -> Result<Cap, SpecError> {
    let Some(raw) = info.limits.get(name) else {
        return Ok(Cap::Unset);
    };
    let field = Field::new("limits").child(name).child("value");
    if raw.value == f64::INFINITY {
        return Ok(Cap::Infinite);
    }
    let thousandths = amount(raw.value, most, &field)?;
    if thousandths < request.unwrap_or(0) {
        return Err(field.error(raw.value, format!("must not be less than the {name} of resources")));
    }
    Ok(Cap::Thousandths(thousandths))
}

/// A finite amount from 0 to `most`, in thousandths.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked before; what is above every bound in use saturates"
)]
fn amount(value: f64, most: f64, field: &Field) -> Result<u64, SpecError> {
    if value.is_finite() && (0.0..=most).contains(&value) {
        return Ok((value * THOUSANDTHS).round() as u64);
    }
    let most = if most == f64::MAX { "any number".to_owned() } else { most.to_string() };
    Err(field.error(value, format!("must be from 0 to {most}")))
}

fn memory_bytes(thousandths: u64) -> u64 {
    let bytes = u128::from(thousandths) * u128::from(MEBIBYTE) / 1000;
    u64::try_from(bytes).unwrap_or(u64::MAX).max(LEAST_MEMORY)
}
