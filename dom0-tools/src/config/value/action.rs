//! Words out of a fixed list.

use super::{BadValue, serde_as_text};

macro_rules! words {
    ($(#[$doc:meta])* $type:ident, $what:literal { $($(#[$vdoc:meta])* $variant:ident = $word:literal $(| $also:literal)*),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $type {
            $($(#[$vdoc])* $variant),+
        }

        impl $type {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word of this one.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl std::str::FromStr for $type {
            type Err = BadValue;

            fn from_str(text: &str) -> Result<Self, BadValue> {
                match text {
                    $($word $(| $also)* => Ok(Self::$variant),)+
                    _ => Err(BadValue::new(format!(
                        concat!("`{}` is no ", $what, ": it is one of {}"),
                        text,
                        [$(concat!("`", $word, "`")),+].join(", ")
                    ))),
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.word())
            }
        }

        serde_as_text!($type);
    };
}
pub(in crate::config) use words;

words! {
    /// What becomes of a domain that has ended in some way.
    Action, "action" {
        /// It is removed.
        Destroy = "destroy",
        /// It is created anew with the same configuration.
        Restart = "restart",
        /// It is renamed and kept for looking at, and a new one created.
        RenameRestart = "rename-restart",
        /// It is kept as it is, not running.
        Preserve = "preserve",
        /// Its memory is written to a file, then as `destroy`.
        CoredumpDestroy = "coredump-destroy",
        /// Its memory is written to a file, then as `restart`.
        CoredumpRestart = "coredump-restart",
        /// Its devices are reset and it goes on (soft reset).
        SoftReset = "soft-reset",
    }
}

words! {
    /// Whether and how the domain's reads of the TSC are emulated.
    TscMode, "tsc mode" {
        /// As the hypervisor thinks best.
        Default = "default",
        /// Always emulated.
        AlwaysEmulate = "always_emulate",
        /// Never.
        Native = "native",
        /// Never, with `TSC_AUX` for the guest's use.
        NativeParavirt = "native_paravirt",
    }
}

impl TscMode {
    /// `XEN_DOMCTL_settscinfo`'s number, which `xl.cfg` may give instead of the word.
    pub const fn number(self) -> u32 {
        match self {
            Self::Default => 0,
            Self::AlwaysEmulate => 1,
            Self::Native => 2,
            Self::NativeParavirt => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_named_in_the_error() {
        assert_eq!("rename-restart".parse(), Ok(Action::RenameRestart));
        let error = "die".parse::<Action>().unwrap_err().to_string();
        assert!(error.contains("`destroy`, `restart`"), "{error}");
    }
}
