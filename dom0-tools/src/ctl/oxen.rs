//! What Oxen tells beyond Xen's interface. On Xen it is absent, and a tool goes without.

use xen_abi::oxen::{
    OXEN_SYSCTL_AUDIT, OXEN_SYSCTL_STATS, OXEN_VERSION, OxenAudit, OxenAuditRecord,
    OxenDomainStats, OxenStats,
};
use zerocopy::FromZeros;

use super::call::host;
use super::{Result, Xen};

/// A part of the record of privileged operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPage {
    /// Records, oldest first.
    pub records: Vec<OxenAuditRecord>,
    /// What to ask for next time.
    pub next: u64,
    /// Records before the first one that are forgotten.
    pub forgotten: u64,
    /// Denied attempts that were never recorded, because a domain made too many.
    pub suppressed: u64,
}

/// Records or domains asked for at once.
const CHUNK: usize = 128;

impl Xen {
    /// The record of privileged operations from number `from` on (0: as old as there are);
    /// an empty page is its end. `None`: this hypervisor keeps none.
    ///
    /// # Errors
    /// `EACCES`: another version of it. `EPERM`: not from a control domain.
    pub fn audit(&self, from: u64) -> Result<Option<AuditPage>> {
        let subject = host("read the record of privileged operations");
        let mut buffer = self.sysctl_buffer(subject, &[CHUNK * size_of::<OxenAuditRecord>()])?;
        let records = buffer.put_all(&[OxenAuditRecord::default(); CHUNK]);
        let mut argument = OxenAudit::new_zeroed();
        argument.version = OXEN_VERSION;
        argument.room = CHUNK as u32;
        argument.next = from;
        argument.buffer = records.address();
        let Some(back) = present(self.sysctl(subject, OXEN_SYSCTL_AUDIT, &mut buffer, &argument))?
        else {
            return Ok(None);
        };
        let mut records = buffer.get_all(records);
        records.truncate(back.count as usize);
        Ok(Some(AuditPage {
            records,
            next: back.next,
            forgotten: back.forgotten,
            suppressed: back.suppressed,
        }))
    }

    /// What each domain has used and has, ascending. `None`: this hypervisor does not say.
    ///
    /// # Errors
    /// As [`Xen::audit`].
    pub fn domain_stats(&self) -> Result<Option<Vec<OxenDomainStats>>> {
        let subject = host("ask what the domains have used");
        let mut all = Vec::new();
        let mut first = 0;
        loop {
            let mut buffer =
                self.sysctl_buffer(subject, &[CHUNK * size_of::<OxenDomainStats>()])?;
            let stats = buffer.put_all(&[OxenDomainStats::default(); CHUNK]);
            let mut argument = OxenStats::new_zeroed();
            argument.version = OXEN_VERSION;
            argument.first_domain = first;
            argument.room = CHUNK as u32;
            argument.buffer = stats.address();
            let command = OXEN_SYSCTL_STATS;
            let Some(back) = present(self.sysctl(subject, command, &mut buffer, &argument))? else {
                return Ok(None);
            };
            let found = (back.count as usize).min(CHUNK);
            let raw = buffer.get_all(stats);
            all.extend_from_slice(&raw[..found]);
            match raw[..found].last() {
                Some(last) if found == CHUNK => first = last.domain.saturating_add(1),
                _ => return Ok(Some(all)),
            }
        }
    }
}

/// `None` where the hypervisor does not know the question.
fn present<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.errno() == Some(libc::ENOSYS) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::error::errno;

    #[test]
    fn an_absent_question_is_no_error() {
        let failed = |number| Err::<(), _>(host("ask").error(errno(number)));
        assert_eq!(present(failed(libc::ENOSYS)).unwrap(), None);
        assert_eq!(
            present(failed(libc::EACCES)).unwrap_err().errno(),
            Some(libc::EACCES)
        );
        assert_eq!(present(Ok(3)).unwrap(), Some(3));
    }
}
