//! Where a connection comes from, in the words of the configuration.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::kernel::grant::Cidr;

/// Networks under one name, such as `office` or `vpn`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Zone {
    pub name: String,
    pub networks: Vec<Cidr>,
}

/// Names of the zones that hold this address.
pub fn zones_of(source: IpAddr, zones: &[Zone]) -> BTreeSet<String> {
    let holds = |zone: &&Zone| zone.networks.iter().any(|network| network.contains(source));
    zones.iter().filter(holds).map(|zone| zone.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_each_zone_that_holds_it() {
        let zone = |name: &str, networks: &[&str]| Zone {
            name: name.into(),
            networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        };
        let zones = [
            zone("inside", &["10.0.0.0/8", "fd00::/8"]),
            zone("office", &["10.1.0.0/16"]),
            zone("nowhere", &[]),
        ];
        let of = |source: &str| {
            zones_of(source.parse().unwrap(), &zones)
                .into_iter()
                .collect::<Vec<_>>()
        };
        assert_eq!(of("10.1.2.3"), ["inside", "office"]);
        assert_eq!(of("::ffff:10.1.2.3"), ["inside", "office"]);
        assert_eq!(of("fd00::1"), ["inside"]);
        assert!(of("192.0.2.1").is_empty());
    }
}
