//! Disk specifications of `xl-disk-configuration(5)`, old and new forms mixed.

use super::settings::Item;
use crate::config::model::{Access, BackendType, Disk, DiskFormat};
use crate::config::value::Vdev;

/// What is known of a disk while its text is read.
#[derive(Default)]
struct Parts {
    target: Option<String>,
    format: Option<DiskFormat>,
    vdev: Option<String>,
    access: Option<Access>,
    access_by_place: bool,
    backendtype: Option<BackendType>,
    backend: Option<String>,
    script: Option<String>,
    cdrom: bool,
    direct_io_safe: bool,
    discard: Option<bool>,
    /// An old prefix (`file:`) was there: then no format follows by place.
    prefix: bool,
}

/// Reads one item of `disk = [ … ]`.
///
/// # Errors
/// What is wrong with it and what is allowed.
pub(super) fn parse(item: &Item, warn: &mut dyn FnMut(String)) -> Result<Disk, String> {
    read(&item.text, warn)
}

/// Reads the parts of a disk as `block-attach` takes them: joined by commas.
///
/// # Errors
/// What is wrong with it and what is allowed.
pub fn read(text: &str, warn: &mut dyn FnMut(String)) -> Result<Disk, String> {
    let mut parts = Parts::default();
    let mut rest = text.trim();
    while !rest.is_empty() {
        // Takes the rest as it is, commas and all.
        if let Some(target) = rest.strip_prefix("target=") {
            let target = target.strip_suffix(',').unwrap_or(target);
            once(&mut parts.target, "target", target)?;
            break;
        }
        if let Some(behind) = parts.prefix(rest, warn)? {
            rest = behind;
            continue;
        }
        let (part, behind) = rest.split_once(',').unwrap_or((rest, ""));
        parts.take(part.trim(), warn)?;
        rest = behind.trim_start();
    }
    parts.finish()
}

/// Sets what was not set before.
fn once(slot: &mut Option<String>, what: &str, value: &str) -> Result<(), String> {
    if slot.as_ref().is_some_and(|old| !old.is_empty()) {
        return Err(format!("{what} is given twice"));
    }
    *slot = Some(value.to_owned());
    Ok(())
}

impl Parts {
    /// An old prefix at the start of `rest`; returns what is behind it.
    fn prefix<'a>(
        &mut self,
        rest: &'a str,
        warn: &mut dyn FnMut(String),
    ) -> Result<Option<&'a str>, String> {
        let Some((prefix, behind)) = rest.split_once(':') else {
            return Ok(None);
        };
        match prefix {
            "raw" | "qcow" | "qcow2" | "vhd" => self.set_format(prefix)?,
            "iscsi" | "nbd" | "enbd" | "drbd" => {
                once(&mut self.script, "script", &format!("block-{prefix}"))?;
            }
            "tapdisk" | "tap" | "tap2" | "aio" | "ioemu" => {
                warn(format!("the old prefix `{prefix}:` means nothing any more"));
            }
            "file" | "phy" => {}
            // `xvda:cdrom` goes by place; `http:/x` is a prefix that nobody knows.
            _ if !prefix.is_empty()
                && prefix
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                && !behind.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()) =>
            {
                return Err(format!(
                    "`{prefix}:` is no prefix of a target: write target=PATH"
                ));
            }
            _ => return Ok(None),
        }
        self.prefix = true;
        Ok(Some(behind))
    }

    fn take(&mut self, part: &str, warn: &mut dyn FnMut(String)) -> Result<(), String> {
        if let Some((key, value)) = part.split_once('=') {
            return self.named(key, value, warn);
        }
        match part {
            "cdrom" => self.cdrom = true,
            "direct-io-safe" => self.direct_io_safe = true,
            "discard" => self.discard = Some(true),
            "no-discard" => self.discard = Some(false),
            "colo" => return Err("COLO is not offered".into()),
            "no-colo" => {}
            "trusted" | "untrusted" => {
                warn(format!("`{part}` is not passed on to the guest"));
            }
            _ => return self.by_place(part),
        }
        Ok(())
    }

    fn named(
        &mut self,
        key: &str,
        value: &str,
        warn: &mut dyn FnMut(String),
    ) -> Result<(), String> {
        match key {
            "format" => self.set_format(value)?,
            "vdev" => once(&mut self.vdev, "vdev", value)?,
            "access" => self.access = Some(word(key, value)?),
            "backend" => once(&mut self.backend, "backend", value)?,
            "backendtype" => self.backendtype = Some(word(key, value)?),
            "script" => once(&mut self.script, "script", value)?,
            "devtype" => match value {
                "cdrom" => self.cdrom = true,
                "disk" => self.cdrom = false,
                _ => return Err(format!("devtype: `{value}` is neither `cdrom` nor `disk`")),
            },
            "specification" if value == "xen" => {}
            "specification" => {
                return Err(format!(
                    "specification: `{value}` is not offered: only `xen` is"
                ));
            }
            "grant_usage" => warn("`grant_usage` means nothing to Xen's own disks".into()),
            _ if key.starts_with("colo") || matches!(key, "active-disk" | "hidden-disk") => {
                return Err("COLO is not offered".into());
            }
            _ => {
                return Err(format!(
                    "`{key}` is no key of a disk: target, format, vdev, access, devtype, \
                     backend, backendtype, script are"
                ));
            }
        }
        Ok(())
    }

    /// By place: target, format, vdev, access.
    fn by_place(&mut self, part: &str) -> Result<(), String> {
        if self.target.is_none() {
            return once(&mut self.target, "target", part);
        }
        if !self.prefix && self.format.is_none() {
            let no_target = self.target.as_deref() == Some("");
            if no_target && part.contains(':') {
                self.format = Some(DiskFormat::Empty);
                return self.vdev_and_type(part);
            }
            return self.set_format(part);
        }
        if self.vdev.is_none() {
            return self.vdev_and_type(part);
        }
        if !self.access_by_place {
            self.access_by_place = true;
            self.access = Some(word("access", part)?);
            return Ok(());
        }
        Err(format!(
            "`{part}` is one too many: by place come target, format, vdev, access"
        ))
    }

    /// `xvda` or `xvda:cdrom`
    fn vdev_and_type(&mut self, part: &str) -> Result<(), String> {
        let (vdev, kind) = match part.rsplit_once(':') {
            Some((vdev, kind)) => (vdev, Some(kind)),
            None => (part, None),
        };
        match kind {
            Some("cdrom") => self.cdrom = true,
            None | Some("disk") => {}
            Some(other) => {
                return Err(format!("`:{other}` is neither `:cdrom` nor `:disk`"));
            }
        }
        once(&mut self.vdev, "vdev", vdev)
    }

    fn set_format(&mut self, text: &str) -> Result<(), String> {
        let format: DiskFormat = word("format", text)?;
        match self.format {
            Some(old) if old != format => Err(format!("format is given twice: {old}, {format}")),
            _ => {
                self.format = Some(format);
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<Disk, String> {
        let vdev = self
            .vdev
            .filter(|vdev| !vdev.is_empty())
            .ok_or("no vdev: say what the guest sees, as in vdev=xvda")?;
        let vdev: Vdev = vdev.parse().map_err(|bad| format!("vdev: {bad}"))?;
        let target = self.target.filter(|target| !target.is_empty());
        let format = match (&target, self.cdrom) {
            (None, true) => DiskFormat::Empty,
            _ => self.format.unwrap_or(DiskFormat::Raw),
        };
        let access = if self.cdrom {
            Access::ReadOnly
        } else {
            self.access.unwrap_or(Access::ReadWrite)
        };
        let script = self.script.map(|script| script.parse());
        Ok(Disk {
            vdev,
            target,
            format,
            access,
            backendtype: self.backendtype,
            script: script.transpose().map_err(|bad| format!("script: {bad}"))?,
            backend: self.backend,
            cdrom: self.cdrom,
            direct_io_safe: self.direct_io_safe,
            discard: self.discard,
        })
    }
}

fn word<T: std::str::FromStr<Err: std::fmt::Display>>(key: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|bad| format!("{key}: {bad}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn disk(text: &str) -> Result<Disk, String> {
        read(text, &mut |_| {})
    }

    fn summary(text: &str) -> String {
        let d = disk(text).unwrap_or_else(|bad| panic!("{text}: {bad}"));
        let target = d.target.as_deref().unwrap_or("-");
        format!("{target} {} {} {}", d.format, d.vdev, d.access)
    }

    #[test]
    fn the_manuals_examples() {
        for text in [
            "/dev/vg/guest-volume,,hda",
            "/dev/vg/guest-volume,raw,hda,rw",
            "format=raw, vdev=hda, access=rw, target=/dev/vg/guest-volume",
            "raw:/dev/vg/guest-volume,hda,w",
            "phy:/dev/vg/guest-volume,hda,w",
            "  /dev/vg/guest-volume , raw , hda , rw ",
        ] {
            assert_eq!(summary(text), "/dev/vg/guest-volume raw hda rw", "{text}");
        }
        for text in [
            "/root/image.iso,,hdc,cdrom",
            "/root/image.iso,,hdc,,cdrom",
            "/root/image.iso,raw,hdc,devtype=cdrom",
            "format=raw, vdev=hdc, access=ro, devtype=cdrom, target=/root/image.iso",
            "raw:/root/image.iso,hdc:cdrom,ro",
        ] {
            assert_eq!(summary(text), "/root/image.iso raw hdc ro", "{text}");
        }
        assert_eq!(summary(",hdc:cdrom,r"), "- empty hdc ro");
        assert_eq!(summary("tap:qcow2:/a,xvda,w"), "/a qcow2 xvda rw");
        assert_eq!(summary("vdev=xvda,target=/a,b:c"), "/a,b:c raw xvda rw");
        let nbd = disk("nbd:host,xvdb,w").unwrap();
        assert_eq!(nbd.script.as_deref(), Some("block-nbd"));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("", "no vdev"),
            ("/a", "no vdev"),
            ("/a,raw,vda,w", "`vda` is no disk"),
            ("/a,raw,xvda,x", "`x` is no access"),
            ("/a,exotic,xvda", "`exotic` is no disk format"),
            ("/a,raw,xvda,w,more", "one too many"),
            ("http://x,xvda,w", "`http:` is no prefix"),
            ("vdev=xvda,vdev=xvdb,target=/a", "vdev is given twice"),
            ("/a,raw,xvda,frmat=raw", "`frmat` is no key"),
            ("/a,raw,xvda,script=../../bin/sh", "script: "),
        ] {
            let bad = disk(text).unwrap_err();
            assert!(bad.contains(part), "{text}: {bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text: String) {
            let _ = disk(&text);
        }

        #[test]
        fn any_text_of_its_words_is_answered(
            words in proptest::collection::vec("file:|raw|,|=|xvda|target|/a|vdev=|cdrom|:| |w", 0..12)
        ) {
            let _ = disk(&words.concat());
        }
    }
}
