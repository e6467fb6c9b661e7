//! [`Status`]: how a refusal or a failed call is told to the other side.

/// A status code. The names and numbers up to 16 are gRPC's (`grpc/status.h`); above that, this library's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u32)]
pub enum Status {
    /// Not an error.
    Ok = 0,
    /// The caller gave up.
    Cancelled = 1,
    /// An error of no known class.
    Unknown = 2,
    /// The request makes no sense, whatever the state of the server.
    InvalidArgument = 3,
    /// The deadline passed first.
    DeadlineExceeded = 4,
    /// What was asked for is not there.
    NotFound = 5,
    /// What should be made is there already.
    AlreadyExists = 6,
    /// The caller may not do this.
    PermissionDenied = 7,
    /// A limit is reached: connections, memory, descriptors, threads, rate.
    ResourceExhausted = 8,
    /// The server is not in the state that this needs.
    FailedPrecondition = 9,
    /// Stopped half-way, for instance by a conflict; try the whole again.
    Aborted = 10,
    /// Beyond the valid range.
    OutOfRange = 11,
    /// No handler for this message type.
    Unimplemented = 12,
    /// The server's own fault.
    Internal = 13,
    /// Not now; try again.
    Unavailable = 14,
    /// Data was lost.
    DataLoss = 15,
    /// The caller is not known.
    Unauthenticated = 16,
    /// The two sides speak no common version.
    VersionMismatch = 100,
    /// The server has as many connections as it allows.
    TooManyConnections = 101,
    /// A message is beyond the limit.
    MessageTooLarge = 102,
}

impl Status {
    /// The status that `code` stands for; [`Status::Unknown`] for a number from a later version.
    #[must_use]
    pub const fn from_code(code: u32) -> Self {
        match code {
            0 => Self::Ok,
            1 => Self::Cancelled,
            3 => Self::InvalidArgument,
            4 => Self::DeadlineExceeded,
            5 => Self::NotFound,
            6 => Self::AlreadyExists,
            7 => Self::PermissionDenied,
            8 => Self::ResourceExhausted,
            9 => Self::FailedPrecondition,
            10 => Self::Aborted,
            11 => Self::OutOfRange,
            12 => Self::Unimplemented,
            13 => Self::Internal,
            14 => Self::Unavailable,
            15 => Self::DataLoss,
            16 => Self::Unauthenticated,
            100 => Self::VersionMismatch,
            101 => Self::TooManyConnections,
            102 => Self::MessageTooLarge,
            _ => Self::Unknown,
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_the_way_there_and_back_and_later_ones_are_unknown() {
        for code in 0..200 {
            let status = Status::from_code(code);
            assert!(status.code() == code || status == Status::Unknown);
        }
        assert_eq!((0..200).filter(|code| Status::from_code(*code).code() == *code).count(), 20);
        assert_eq!(Status::from_code(u32::MAX), Status::Unknown);
    }
}
