//! Network cards of `xl-network-configuration(5)`.

use super::settings::Item;
use super::syntax::integer;
use crate::config::model::Vif;

/// Reads one item of `vif = [ … ]`.
///
/// # Errors
/// What is wrong with it and what is allowed.
pub(super) fn parse(item: &Item, warn: &mut dyn FnMut(String)) -> Result<Vif, String> {
    read(&item.text, warn)
}

/// Reads `mac=…,bridge=…`, as `network-attach` takes it joined by commas; empty for a card
/// with every default.
///
/// # Errors
/// What is wrong with it and what is allowed.
pub fn read(text: &str, warn: &mut dyn FnMut(String)) -> Result<Vif, String> {
    let mut vif = Vif::default();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let Some((key, value)) = part.split_once('=') else {
            match part {
                "accel" => warn("`accel` means nothing any more".into()),
                "trusted" | "untrusted" => {
                    warn(format!("`{part}` is not passed on to the guest"));
                }
                _ => return Err(format!("`{part}` is not of the form key=value")),
            }
            continue;
        };
        one(&mut vif, key.trim(), value.trim(), warn)?;
    }
    Ok(vif)
}

fn one(vif: &mut Vif, key: &str, value: &str, warn: &mut dyn FnMut(String)) -> Result<(), String> {
    match key {
        "mac" => vif.mac = Some(parsed(key, value)?),
        "bridge" => bridge(vif, value)?,
        "gatewaydev" | "netdev" => vif.gatewaydev = Some(parsed(key, value)?),
        "script" => vif.script = Some(parsed(key, value)?),
        "ip" => vif.ip = Some(value.to_owned()).filter(|ip| !ip.is_empty()),
        "vifname" => vif.vifname = Some(parsed(key, value)?),
        "rate" => vif.rate = Some(parsed(key, value)?),
        "backend" => vif.backend = Some(value.to_owned()),
        "mtu" => vif.mtu = Some(number(key, value)?),
        "vlan" => vif.vlan = Some(number(key, value)?),
        "devid" => vif.devid = Some(number(key, value)?),
        "type" if value == "vif" => {}
        "type" => return Err(format!("type: `{value}` is not offered: only `vif` is")),
        "model" => warn("model: ignored: it is for HVM guests".into()),
        "accel" => warn("`accel` means nothing any more".into()),
        _ => {
            return Err(format!(
                "`{key}` is no key of a network card: mac, bridge, gatewaydev, type, script, ip, \
                 vifname, rate, model, backend, mtu, vlan, devid are"
            ));
        }
    }
    Ok(())
}

/// `NAME`, or `NAME.VLAN` when what is behind the dot is a number, as Open vSwitch's
/// script takes it.
fn bridge(vif: &mut Vif, value: &str) -> Result<(), String> {
    match value.rsplit_once('.') {
        Some((name, vlan)) if vlan.parse::<u16>().is_ok() => {
            vif.bridge = Some(parsed("bridge", name)?);
            vif.vlan = Some(number("bridge", vlan)?);
        }
        _ => vif.bridge = Some(parsed("bridge", value)?),
    }
    Ok(())
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    key: &str,
    value: &str,
) -> Result<T, String> {
    value.parse().map_err(|bad| format!("{key}: {bad}"))
}

fn number<T: TryFrom<i64>>(key: &str, value: &str) -> Result<T, String> {
    integer(value)
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("{key}: `{value}` is no number that is allowed"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vif(text: &str) -> Result<Vif, String> {
        read(text, &mut |_| {})
    }

    #[test]
    fn the_manuals_examples() {
        assert_eq!(vif(""), Ok(Vif::default()));
        let card = vif("mac=00:16:3E:74:3d:76,model=rtl8139,bridge=xenbr0, rate=10Mb/s").unwrap();
        assert_eq!(card.mac.unwrap().to_string(), "00:16:3e:74:3d:76");
        assert_eq!(card.bridge.as_deref(), Some("xenbr0"));
        assert_eq!(card.rate.unwrap().bytes_per_interval(), 62_500);
        let card = vif("bridge=ovsbr0.12,ip=10.0.0.2 10.0.0.3,script=vif-openvswitch").unwrap();
        assert_eq!(
            (card.bridge.as_deref(), card.vlan),
            (Some("ovsbr0"), Some(12))
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("bridge", "not of the form key=value"),
            ("brigde=x", "`brigde` is no key"),
            ("mac=1", "mac: `1` is no Ethernet address"),
            ("type=ioemu", "only `vif`"),
            ("script=/x/../y", "script: "),
            ("mtu=70000", "mtu: "),
            ("bridge=../../x", "bridge: "),
        ] {
            let bad = vif(text).unwrap_err();
            assert!(bad.contains(part), "{text}: {bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text: String) {
            let _ = vif(&text);
        }
    }
}
