use super::*;
use crate::hugetlb::machine::{HUGE, Machine, POOL, Window, all_pages, banks, free};
use crate::hugetlb::plan::Plan;
use crate::{Addresses, Hugetlb};
use cma_framework::Alignment;
use cma_framework::config::Place;
use cma_framework::reserve::ReserveRequest;

fn region(pages: u64) -> HugeRegion {
    let request = ReserveRequest {
        name: Some("apart".to_string()),
        pages: Pages::covering(pages * HUGE),
        alignment: Alignment::PAGE,
        place: Place::Anywhere,
    };
    let need = Plan::default().need(&request);
    Hugetlb::new(banks()).with_page_size(HUGE).make(&request, &need).unwrap()
}

/// Checks that the pages are where the region says, and returns the lengths of their extents in
/// pages.
fn lengths(region: &HugeRegion, pages: Range<usize>) -> Vec<u64> {
    let mut expected = region.page_range(pages.clone()).first_page();
    let mut lengths = Vec::new();
    for Extent { start, len } in region.extents(pages) {
        let window = Window::onto(start.file.open().unwrap(), start.offset + len);
        for at in (start.offset..start.offset + len).step_by(HUGE as usize) {
            assert_eq!(window.frame_at(at as usize), Some(expected));
            expected += HUGE / PAGE_SIZE;
        }
        lengths.push(len / HUGE);
    }
    lengths
}

/// Moves a page to a file of its own, and unpins it: another user of the pool takes what it returns
/// to the pool in between.
fn move_apart(region: &HugeRegion, index: usize) {
    let mut page = region.pages[index].lock();
    let there = page.location.take().unwrap();
    let strangers = all_pages();
    there.file.remove(there.offset).unwrap();
    region.pin.as_ref().unwrap().unpin(index).unwrap();
    drop(strangers);
    // The page that was freed last comes out first, and is another one.
    assert!(!region.arrived(index));
    page.location = Some(region.find_apart(index, &there).unwrap());
}

/// Another user of the pool takes each page between its removal and its return, as it could with
/// every attempt.
#[test]
fn a_page_that_cant_be_moved_to_the_chunks_file_is_a_piece_of_its_own_until_the_next_chunk() {
    let Some(_machine) = Machine::with_huge_pages(5) else { return };
    let region = region(3);
    region.enter(0..3);
    assert!(region.use_in_own_file(0..3).unwrap());
    move_apart(&region, 1);
    region.pin.as_ref().unwrap().pin(1, region.address(1)).unwrap();
    assert_eq!(free(POOL), 2);
    assert_eq!(lengths(&region, 0..3), [1, 1, 1]);
    // That has filled the hole in the chunk's file.
    assert_eq!(free(POOL), 1);
    region.leave(0..3);
    region.retire(0..3);
    // The next chunk has one file again.
    region.enter(0..3);
    region.check_released(0..3).unwrap();
    assert!(region.use_in_own_file(0..3).unwrap());
    assert_eq!(lengths(&region, 0..3), [3]);
    region.leave(0..3);
    assert_eq!(free(POOL), 2);
}

/// Several pages come out of the pool before the one that belongs there.
#[test]
fn a_page_that_others_came_before_is_searched_and_moved_to_the_chunks_file() {
    let Some(_machine) = Machine::with_huge_pages(5) else { return };
    let region = region(3);
    region.enter(0..3);
    assert!(region.use_in_own_file(0..3).unwrap());
    let strangers = all_pages();
    {
        let mut page = region.pages[1].lock();
        let there = page.location.take().unwrap();
        there.file.remove(there.offset).unwrap();
        region.pin.as_ref().unwrap().unpin(1).unwrap();
        drop(strangers);
        region.exchange(1, &mut page, &there).unwrap();
    }
    assert_eq!(lengths(&region, 0..3), [3]);
    assert_eq!(free(POOL), 2);
    region.leave(0..3);
}

#[test]
fn pages_in_files_of_their_own_are_restored_by_their_addresses() {
    let Some(_machine) = Machine::with_huge_pages(5) else { return };
    let region = region(3);
    region.enter(0..3);
    assert!(region.use_in_own_file(0..3).unwrap());
    move_apart(&region, 1);
    assert_eq!(lengths(&region, 0..3), [1, 1, 1]);
    let (range, of_region) = (region.range, region.lasting().unwrap());
    let file = |index: usize| {
        let location = region.pages[index].lock().location.clone().unwrap();
        location.file.duplicate().unwrap()
    };
    let of_chunk = vec![file(0), file(1)];
    drop(region);
    let addresses = Addresses::from(banks()).withhold(range).unwrap();
    let again = HugeRegion::restored("cma:apart".to_string(), addresses, of_region).unwrap();
    let copies = || of_chunk.iter().map(|file| file.try_clone().unwrap());
    assert!(again.restore_chunk(0..3, copies().rev().collect()).is_err());
    assert!(
        again
            .restore_chunk(
                0..3,
                copies().take(1).chain(copies().skip(1)).chain(copies().skip(1)).collect()
            )
            .is_err()
    );
    again.restore_chunk(0..3, of_chunk).unwrap();
    again.settle();
    assert_eq!((lengths(&again, 0..3), again.missing()), (vec![1, 1, 1], vec![]));
    assert_eq!(again.contiguity(), Contiguity::Verified);
    // The next chunk has one file again.
    again.enter(0..3);
    assert!(again.use_in_own_file(0..3).unwrap());
    assert_eq!(lengths(&again, 0..3), [3]);
    again.leave(0..3);
    assert_eq!(free(POOL), 2);
}
