//! The table of frames, judged twice: by the library on the host, and by the object in the kernel.

use greylist_ebpf::{
    abi::Counter,
    verdict::{Action, Outcome},
};
use support::{needs, requirements};

use crate::{
    cases::{Case, cases, populate, whole_syns},
    judge::{Host, Judge, Program},
};

#[test]
fn library_judges_every_frame_of_the_table() {
    judges_every_frame_of_the_table(&mut Host::default());
}

#[test]
fn kernel_judges_every_frame_of_the_table() {
    let ((), object) = needs!(requirements::root(), requirements::xdp_object());
    judges_every_frame_of_the_table(&mut Program::load(&object));
}

fn judges_every_frame_of_the_table(judge: &mut dyn Judge) {
    for Case {
        name,
        frame,
        action,
        counter,
    } in cases()
    {
        populate(judge);
        assert_eq!(judge.judge(&frame), Outcome { action, counter }, "{name}");
    }
}

#[test]
fn library_and_kernel_agree_on_every_truncation() {
    let ((), object) = needs!(requirements::root(), requirements::xdp_object());
    let (mut host, mut program) = judges(&object);
    for syn in whole_syns() {
        for length in 0..syn.len() {
            let cut = &syn[..length];
            let outcome = host.judge(cut);
            assert_eq!(outcome.action, Action::Pass, "cut to {length} bytes");
            assert_eq!(outcome.counter, Counter::Truncated, "cut to {length} bytes");
            // The kernel itself takes no frame shorter than an Ethernet header.
            if length >= 14 {
                assert_eq!(program.judge(cut), outcome, "cut to {length} bytes");
            }
        }
        assert_eq!(program.judge(&syn).action, Action::Drop, "{syn:?}");
    }
}

/// Every byte of the headers, set to every value in turn: whatever it is, the kernel drops nothing
/// that the library lets pass.
#[test]
fn library_and_kernel_agree_on_every_changed_byte() {
    let ((), object) = needs!(requirements::root(), requirements::xdp_object());
    let (mut host, mut program) = judges(&object);
    // Every form without tags, and one behind a tag.
    for syn in whole_syns().into_iter().take(5) {
        for offset in 12..syn.len() {
            for value in 0..=u8::MAX {
                let mut frame = syn.clone();
                frame[offset] = value;
                let expected = host.judge(&frame);
                assert_eq!(
                    program.judge(&frame),
                    expected,
                    "byte {offset} is {value} in {frame:?}"
                );
            }
        }
    }
}

#[test]
fn verifier_stays_within_its_budget() {
    let ((), object) = needs!(requirements::root(), requirements::xdp_object());
    let program = Program::load(&object);
    let info = program.xdp().info().expect("a loaded program");
    let verified = info
        .verified_instruction_count()
        .expect("kernels from 5.16 tell");
    let size = std::fs::metadata(&object)
        .expect("it was read before")
        .len();
    println!(
        "object {size} bytes, {} bytes of instructions, {} jited, {verified} instructions verified",
        info.size_translated().unwrap_or(0),
        info.size_jitted(),
    );
    assert!(
        verified < VERIFIER_BUDGET,
        "the verifier walked {verified} instructions; the budget is {VERIFIER_BUDGET}"
    );
}

/// Twice what is needed on 6.18, and a fiftieth of what the kernel allows (one million): what it
/// guards against is a loop that the verifier walks path by path.
const VERIFIER_BUDGET: u32 = 20_000;

/// Both, with the same entries.
fn judges(object: &std::path::Path) -> (Host, Program) {
    let (mut host, mut program) = (Host::default(), Program::load(object));
    populate(&mut host);
    populate(&mut program);
    (host, program)
}
