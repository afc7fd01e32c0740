use super::*;

#[test]
fn every_scenario_is_found_by_its_name_and_nothing_else_is() {
    for scenario in Scenario::ALL {
        assert_eq!(Scenario::parse(scenario.name()), Ok(vec![scenario]));
    }
    assert_eq!(Scenario::parse("a2a-warm").unwrap().len(), 3);
    let mut all = Scenario::parse("mcp").unwrap();
    all.extend(Scenario::parse("a2a").unwrap());
    assert_eq!(all, Scenario::ALL);
    assert_eq!(
        Scenario::parse("sse"),
        Ok(vec![Scenario::SseH1, Scenario::SseH2])
    );
    assert!(Scenario::parse("warm").unwrap_err().contains("warm-h2"));
}
