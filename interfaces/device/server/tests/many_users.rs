//! No set of users takes the last thread or the last connection from another user.

mod common;
#[path = "common/thinks.rs"]
mod thinks;

use cma_device_protocol::{Answer, Message, Request};
use common::{MIB, Raw, Served, alloc, eventually, is_root, with_memory};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

/// Whether that client is served.
fn is_served(line: &Raw) -> bool {
    line.ask(1, &alloc("camera", 4096));
    let (answer, memory) = line.hear_with().unwrap();
    let has = matches!(answer.as_answer(), Ok((1, Answer::Chunk(_)))) && memory.len() == 1;
    drop(memory);
    line.ask(2, &Request::Free);
    has && line.hear().unwrap().as_answer() == Ok((2, Answer::Freed))
}

#[test]
fn four_users_with_requests_stuck_in_an_allocator_take_no_thread_from_a_fifth() {
    if !is_root("four_users_with_requests_stuck_in_an_allocator_take_no_thread_from_a_fifth") {
        return;
    }
    let served = Served::new(thinks::framework());
    let stuck: Vec<Raw> = (1001..=1004).flat_map(|uid| served.lines_of(uid, 5)).collect();
    stuck.iter().for_each(|line| line.ask(1, &alloc("thinks", MIB)));
    eventually("one of them is stuck", || thinks::how_many() == 1);
    // Each of these needs another thread than the one that took it, and one that is left.
    let lines = served.lines_of(1005, 20);
    for _ in 0..10 {
        assert!(lines.iter().all(is_served));
    }
    // Also a request that is refused, which waits for what was given back before it.
    lines[0].ask(3, &alloc("camera", 65 * MIB));
    assert_eq!(Errno::from_raw_os_error(lines[0].refusal().0), Errno::NOMEM);
    thinks::stop();
    for line in &stuck {
        line.hear().unwrap();
    }
}

#[test]
fn two_users_with_all_connections_and_no_chunk_lock_nobody_out() {
    if !is_root("two_users_with_all_connections_and_no_chunk_lock_nobody_out") {
        return;
    }
    let served = Served::by(with_memory(), "user-connections=20,connections=40", "*=*");
    let with_chunk = served.lines_of(1001, 1);
    with_chunk[0].ask(1, &alloc("camera", MIB));
    with_chunk[0].hear_with().unwrap();
    let silent = [served.lines_of(1001, 19), served.lines_of(1002, 20)];
    let others: Vec<Raw> =
        [0, 1003, 1004, 0, 1003].iter().flat_map(|uid| served.lines_of(*uid, 4)).collect();
    assert!(others.iter().all(is_served));
    assert!(!with_chunk[0].is_gone());
    // Each of the two lost those that were silent for longest. The last ones of the second found no
    // place.
    for lines in &silent {
        let closed = lines.iter().take_while(|line| line.is_gone()).count();
        assert!((1..=15).contains(&closed), "{closed}");
        assert!(lines[closed..17].iter().all(|line| !line.is_gone()));
        let (errno, words) = lines[0].refusal();
        assert_eq!(Errno::from_raw_os_error(errno), Errno::USERS);
        assert!(words.contains("connect again"), "{words}");
    }
}

#[test]
fn two_users_who_ask_on_all_connections_and_read_no_answer_lock_nobody_out() {
    if !is_root("two_users_who_ask_on_all_connections_and_read_no_answer_lock_nobody_out") {
        return;
    }
    let served = Served::by(with_memory(), "user-connections=20,connections=40", "*=*");
    // One that finds no place is closed already.
    let say = |line: &Raw, request: &Request<'_>| {
        let _ =
            send(&line.0, Message::request(1, request).unwrap().as_bytes(), SendFlags::NOSIGNAL);
    };
    let silent: Vec<Raw> = [1001, 1002].iter().flat_map(|uid| served.lines_of(*uid, 20)).collect();
    // One request is answered, one waits until the answer is read, and others stay unread.
    (0..4).for_each(|_| silent.iter().for_each(|line| say(line, &Request::List { after: 0 })));
    eventually("another user is served", || {
        let lines = served.lines_of(1003, 1);
        say(&lines[0], &alloc("camera", 4096));
        let answer = lines[0].hear_with();
        answer.is_ok_and(|(answer, _)| matches!(answer.as_answer(), Ok((1, Answer::Chunk(_)))))
    });
}

#[test]
fn users_whose_connections_all_have_chunks_leave_some_to_others_and_to_root() {
    if !is_root("users_whose_connections_all_have_chunks_leave_some_to_others_and_to_root") {
        return;
    }
    let served = Served::by(with_memory(), "user-connections=32,connections=64", "*=*");
    let mut have_chunks = Vec::new();
    for uid in [1001, 1002] {
        for line in served.lines_of(uid, 40) {
            // One that found no place is closed already.
            let request = Message::request(1, &alloc("camera", 4096)).unwrap();
            let _ = send(&line.0, request.as_bytes(), SendFlags::NOSIGNAL);
            if matches!(line.hear_with().unwrap().0.as_answer(), Ok((1, Answer::Chunk(_)))) {
                have_chunks.push(line);
            }
        }
    }
    assert_eq!(have_chunks.len(), 32 + 24);
    for uid in [1003, 0] {
        assert!(served.lines_of(uid, 4).iter().all(is_served));
    }
    assert!(have_chunks.iter().all(|line| !line.is_gone()));
}
