//! The offers a framework holds. An agent's resources may come in several offers: they are used together.

use std::collections::BTreeMap;

use mesos::common::{AgentId, OfferId, Resource};
use mesos::scheduler::Offer;

/// Offers that were neither used nor rescinded.
#[derive(Debug, Default)]
pub struct Offers(Vec<Offer>);

/// Scalar resources by name, summed up.
pub type Amounts = BTreeMap<String, f64>;

/// A rounding error of sums of thousandths, which is what Mesos counts in.
const EPSILON: f64 = 1e-6;

/// Sums scalar resources up; others count as nothing.
pub fn sum<'a>(resources: impl IntoIterator<Item = &'a Resource>) -> Amounts {
    let mut amounts = Amounts::new();
    for resource in resources {
        if let Some(scalar) = resource.scalar {
            *amounts.entry(resource.name.clone()).or_default() += scalar.value;
        }
    }
    amounts
}

impl Offers {
    /// Adds offers.
    pub fn add(&mut self, offers: Vec<Offer>) {
        self.0.extend(offers);
    }

    /// Removes an offer that holds no longer.
    pub fn rescind(&mut self, id: &OfferId) {
        self.0.retain(|offer| offer.id != *id);
    }

    /// Forgets all: a new subscription gets new ones.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Removes and returns all.
    pub fn take_all(&mut self) -> Vec<OfferId> {
        self.0.drain(..).map(|offer| offer.id).collect()
    }

    /// Removes and returns all offers of one agent, of `agent` if given, that has at least `needed`.
    pub fn take(&mut self, agent: Option<&AgentId>, needed: &Amounts) -> Option<(AgentId, Vec<OfferId>)> {
        let chosen = self
            .amounts()
            .into_iter()
            .find(|(id, amounts)| agent.is_none_or(|agent| agent == id) && covers(amounts, needed))?
            .0;
        let (taken, left) = self.0.drain(..).partition::<Vec<_>, _>(|offer| offer.agent_id == chosen);
        self.0 = left;
        Some((chosen, taken.into_iter().map(|offer| offer.id).collect()))
    }

    /// What each agent offers, in the order in which the agents came.
    pub fn amounts(&self) -> Vec<(AgentId, Amounts)> {
        let mut agents: Vec<(AgentId, Vec<&Resource>)> = Vec::new();
        for offer in &self.0 {
            match agents.iter_mut().find(|(agent, _)| *agent == offer.agent_id) {
                Some((_, resources)) => resources.extend(&offer.resources),
                None => agents.push((offer.agent_id.clone(), offer.resources.iter().collect())),
            }
        }
        agents.into_iter().map(|(agent, resources)| (agent, sum(resources))).collect()
    }
}

fn covers(offered: &Amounts, needed: &Amounts) -> bool {
    needed.iter().all(|(name, amount)| offered.get(name).copied().unwrap_or_default() + EPSILON >= *amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(id: &str, agent: &str, cpus: f64) -> Offer {
        Offer {
            id: OfferId::new(id),
            agent_id: AgentId::new(agent),
            hostname: "localhost".to_owned(),
            resources: vec![Resource::scalar("cpus", cpus)],
        }
    }

    fn cpus(amount: f64) -> Amounts {
        sum(&[Resource::scalar("cpus", amount)])
    }

    fn three_offers_of_two_agents() -> Offers {
        let mut offers = Offers::default();
        offers.add(vec![offer("1", "a", 1.0), offer("2", "b", 1.5), offer("3", "a", 1.0)]);
        offers
    }

    #[test]
    fn the_offers_of_one_agent_are_taken_together() {
        let mut offers = three_offers_of_two_agents();
        let taken = offers.take(None, &cpus(2.0));
        assert_eq!(taken, Some((AgentId::new("a"), vec![OfferId::new("1"), OfferId::new("3")])));
        assert_eq!(offers.amounts(), [(AgentId::new("b"), cpus(1.5))]);
    }

    #[test]
    fn an_agent_with_too_little_keeps_its_offers() {
        let mut offers = three_offers_of_two_agents();
        assert_eq!(offers.take(Some(&AgentId::new("b")), &cpus(2.0)), None);
        assert_eq!(offers.take(None, &cpus(2.5)), None);
        assert_eq!(offers.take_all().len(), 3);
    }

    #[test]
    fn a_rescinded_offer_is_not_taken() {
        let mut offers = three_offers_of_two_agents();
        offers.rescind(&OfferId::new("3"));
        assert_eq!(offers.take(None, &cpus(2.0)), None);
    }
}
