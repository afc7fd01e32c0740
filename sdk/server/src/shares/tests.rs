use super::*;

#[test]
fn one_owner_may_take_four_fifths_and_leaves_the_rest_to_the_others() {
    let mut shares = Shares::new(1000);
    let [greedy, honest] = ["greedy", "honest"].map(ProofOwner::named);
    let taken = (0..1000).filter(|_| shares.take(greedy)).count();
    assert_eq!(taken, 800);
    let taken = (0..1000).filter(|_| shares.take(honest)).count();
    assert_eq!(taken, 10);
    for other in 0..19 {
        let other = ProofOwner::named(&other.to_string());
        assert_eq!((0..1000).filter(|_| shares.take(other)).count(), 10);
    }
    assert!(!shares.take(ProofOwner::named("late")), "full");
    shares.give_back(greedy);
    assert!(shares.take(ProofOwner::named("late")));
    assert!(!shares.take(greedy));
}

#[test]
fn nothing_is_left_of_owners_whose_entries_are_gone() {
    let mut shares = Shares::new(2);
    let [one, two] = ["one", "two"].map(ProofOwner::named);
    assert!(shares.take(one) && shares.take(two));
    shares.give_back(one);
    shares.give_back(one);
    shares.give_back(two);
    assert_eq!(shares.held, 0);
    assert!(shares.by_owner.is_empty());
    assert!(!Shares::new(0).take(one));
}
