//! Whether this kernel can run the server: version 6.1 or newer, with io_uring.
//!
//! Why before anything else: without it every data core fails later and differently. Here each
//! cause becomes one line that names its cure.

use std::fmt;
use std::io;

/// Oldest kernel, as major and minor: the first long-term one with multishot receive and
/// DEFER_TASKRUN, which the reactor is built on.
pub const KERNEL_MIN: (u32, u32) = (6, 1);

/// Why the server cannot run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelProblem {
    /// The kernel is too old; holds its release.
    TooOld(String),
    /// The administrator switched io_uring off; holds `kernel.io_uring_disabled`.
    Disabled(u8),
    /// A seccomp filter forbids the system call.
    Forbidden,
    /// No memory may be locked for the rings.
    MemoryLocked,
    /// The kernel was built without io_uring.
    Absent,
    /// Anything else.
    Other(String),
}

impl fmt::Display for KernelProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = KERNEL_MIN;
        match self {
            Self::TooOld(release) => write!(
                f,
                "the kernel is {release}, but {major}.{minor} or newer is required: upgrade the kernel"
            ),
            Self::Disabled(level) => write!(
                f,
                "io_uring is disabled (kernel.io_uring_disabled = {level}): \
                 run 'sysctl kernel.io_uring_disabled=0' as root"
            ),
            Self::Forbidden => f.write_str(
                "io_uring is forbidden by a seccomp filter: in a container, allow io_uring_setup, \
                 io_uring_enter and io_uring_register (docker: --security-opt seccomp=unconfined)",
            ),
            Self::MemoryLocked => f.write_str(
                "no memory for io_uring: raise the limit of locked memory \
                 ('ulimit -l unlimited', LimitMEMLOCK=infinity in a systemd unit)",
            ),
            Self::Absent => f.write_str(
                "this kernel was built without io_uring: use one with CONFIG_IO_URING=y",
            ),
            Self::Other(error) => write!(f, "io_uring cannot be used: {error}"),
        }
    }
}

impl std::error::Error for KernelProblem {}

/// What the check looks at.
#[derive(Clone, Debug)]
pub struct KernelFacts {
    /// Release of the kernel, such as `6.1.0-18-amd64`.
    pub release: String,
    /// `kernel.io_uring_disabled`; `None` before Linux 6.6, which brought it.
    pub io_uring_disabled: Option<u8>,
    /// The error number of setting up a small ring, if that failed.
    pub setup_errno: Option<i32>,
}

/// Checks the running kernel by setting up a ring.
pub fn check_kernel() -> Result<(), KernelProblem> {
    judge(&observe())
}

fn observe() -> KernelFacts {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    KernelFacts {
        release: read("/proc/sys/kernel/osrelease"),
        io_uring_disabled: read("/proc/sys/kernel/io_uring_disabled").parse().ok(),
        setup_errno: set_up_ring().err().map(|error| error.raw_os_error().unwrap_or(0)),
    }
}

/// The kind of ring that the reactor uses, in the smallest size.
fn set_up_ring() -> io::Result<()> {
    let ring: io::Result<io_uring::IoUring> =
        io_uring::IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(8);
    ring.map(drop)
}

/// Decides from the facts alone.
pub fn judge(facts: &KernelFacts) -> Result<(), KernelProblem> {
    let too_old = || KernelProblem::TooOld(facts.release.clone());
    // A release that cannot be read is not held against a kernel whose ring works.
    if kernel_version(&facts.release).is_some_and(|version| version < KERNEL_MIN) {
        return Err(too_old());
    }
    let Some(errno) = facts.setup_errno else { return Ok(()) };
    Err(match (errno, facts.io_uring_disabled) {
        (libc::EPERM, Some(level @ 1..)) => KernelProblem::Disabled(level),
        (libc::EPERM | libc::EACCES, _) => KernelProblem::Forbidden,
        (libc::ENOMEM, _) => KernelProblem::MemoryLocked,
        (libc::ENOSYS, _) => KernelProblem::Absent,
        (libc::EINVAL, _) => too_old(),
        (errno, _) => KernelProblem::Other(io::Error::from_raw_os_error(errno).to_string()),
    })
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_own_cure() {
        let too_old = |release: &str| Err(KernelProblem::TooOld(release.to_owned()));
        for (release, disabled, errno, verdict) in [
            ("6.1.0-18-amd64", None, None, Ok(())),
            ("6.18.44", Some(0), None, Ok(())),
            ("10.0", None, None, Ok(())),
            ("5.15.0-91-generic", None, None, too_old("5.15.0-91-generic")),
            ("6.0.19", None, None, too_old("6.0.19")),
            ("", None, None, Ok(())),
            ("6.6.1", Some(2), Some(libc::EPERM), Err(KernelProblem::Disabled(2))),
            ("6.6.1", Some(0), Some(libc::EPERM), Err(KernelProblem::Forbidden)),
            ("6.1.1", None, Some(libc::EPERM), Err(KernelProblem::Forbidden)),
            ("6.6.1", Some(0), Some(libc::ENOMEM), Err(KernelProblem::MemoryLocked)),
            ("6.6.1", None, Some(libc::ENOSYS), Err(KernelProblem::Absent)),
            ("6.6.1", None, Some(libc::EINVAL), too_old("6.6.1")),
        ] {
            let facts = KernelFacts {
                release: release.to_owned(),
                io_uring_disabled: disabled,
                setup_errno: errno,
            };
            assert_eq!(judge(&facts), verdict, "{facts:?}");
        }
    }

    #[test]
    fn a_complaint_is_one_line_and_names_what_to_do() {
        for (problem, cure) in [
            (KernelProblem::TooOld("5.4".to_owned()), "6.1 or newer"),
            (KernelProblem::Disabled(1), "sysctl kernel.io_uring_disabled=0"),
            (KernelProblem::Forbidden, "seccomp=unconfined"),
            (KernelProblem::MemoryLocked, "ulimit -l"),
            (KernelProblem::Absent, "CONFIG_IO_URING=y"),
        ] {
            let text = problem.to_string();
            assert!(text.contains(cure) && !text.contains('\n'), "{text}");
        }
    }
}
