use super::*;
use crate::observe::Protocol;

const A: Operation = Operation::new(Protocol::HTTP, "a");
const B: Operation = Operation::new(Protocol::HTTP, "b");

#[test]
fn each_operation_has_a_row_of_its_own_whichever_thread_counts() {
    let rows = HotRows::default();
    std::thread::scope(|scope| {
        for _ in 0..3 * PARTS {
            scope.spawn(|| {
                let row = rows.row(A).unwrap();
                row.finish(BindingUsed::Session, false, Outcome::Answered);
                row.reuse();
                let row = rows.row(B).unwrap();
                row.finish(BindingUsed::None, false, Outcome::Failed);
            });
        }
    });
    let times = 3 * PARTS as u64;
    let found: Vec<_> = rows.rows().collect();
    assert_eq!(found.len(), 2);
    for (operation, row) in found {
        let expected = match operation {
            A => Row {
                requests: times,
                answered: times,
                with_proof: times,
                reused: times,
                ..Row::default()
            },
            _ => Row {
                requests: times,
                failed: times,
                ..Row::default()
            },
        };
        assert_eq!(row, expected, "{operation:?}");
    }
}

#[test]
fn more_operations_than_there_are_rows_are_refused_not_mixed_up() {
    // Bytes of one string: each has an address of its own.
    let names: &'static str = Box::leak("x".repeat(ROWS + 1).into_boxed_str());
    let operations = || (0..=ROWS).map(|at| Operation::new(Protocol::HTTP, &names[at..=at]));
    let rows = HotRows::default();
    let found: Vec<_> = operations().map(|one| rows.row(one).is_some()).collect();
    assert_eq!(found.iter().filter(|found| **found).count(), ROWS);
    assert!(!found[ROWS]);
    assert!(operations().take(ROWS).all(|one| rows.row(one).is_some()));
}
