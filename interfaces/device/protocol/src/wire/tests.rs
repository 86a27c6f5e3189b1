use super::*;
use crate::Request;
use rustix::fd::AsFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::pipe;

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

fn message() -> Message {
    Message::request(3, &Request::Free).unwrap()
}

/// Whether no process has the writing end of this pipe.
fn is_over(reading: &OwnedFd) -> bool {
    rustix::io::ioctl_fionbio(reading, true).unwrap();
    rustix::io::read(reading, &mut [0_u8]) == Ok(0)
}

#[test]
fn a_message_carries_the_most_descriptors_that_linux_allows() {
    let (here, there) = pair();
    let (reading, writing) = pipe().unwrap();
    send(here.as_fd(), &message(), &[writing.as_fd(); MAX_DESCRIPTORS]).unwrap();
    drop(writing);
    let (received, descriptors) = receive_with(there.as_fd()).unwrap();
    assert_eq!((received, descriptors.len()), (message(), MAX_DESCRIPTORS));
    assert!(!is_over(&reading));
    drop(descriptors);
    assert!(is_over(&reading));
}

#[test]
fn receive_closes_descriptors() {
    let (here, there) = pair();
    let (reading, writing) = pipe().unwrap();
    send(here.as_fd(), &message(), &[writing.as_fd(); 7]).unwrap();
    drop(writing);
    assert_eq!(receive(there.as_fd()), Ok(message()));
    assert!(is_over(&reading));
}

#[test]
fn a_message_that_was_peeked_at_is_received_next() {
    let (here, there) = pair();
    send(here.as_fd(), &message(), &[]).unwrap();
    let later = Message::request(4, &Request::Free).unwrap();
    send(here.as_fd(), &later, &[]).unwrap();
    assert_eq!([(); 2].map(|()| peek(there.as_fd())), [Ok(message()), Ok(message())]);
    assert_eq!([(); 2].map(|()| receive(there.as_fd())), [Ok(message()), Ok(later)]);
    assert_eq!(peek(there.as_fd()), Err(ReceiveError::System(Errno::AGAIN)));
}

#[test]
fn malformed_messages_the_end_and_an_empty_queue_are_distinguished() {
    let (here, there) = pair();
    assert_eq!(receive(there.as_fd()), Err(ReceiveError::System(Errno::AGAIN)));
    for bytes in [1, MESSAGE_BYTES - 1, MESSAGE_BYTES + 1, 4 * MESSAGE_BYTES] {
        send_plain(&here, &vec![1; bytes], SendFlags::empty()).unwrap();
        let length = bytes.min(MESSAGE_BYTES + 1);
        assert_eq!(
            receive(there.as_fd()),
            Err(ReceiveError::Malformed(Malformed::Length { bytes: length }))
        );
    }
    drop(here);
    assert_eq!(receive(there.as_fd()), Err(ReceiveError::Disconnected));
}
