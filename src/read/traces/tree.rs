//! The order of a tree: spans below their parents, and logs below the span that they are in.
//!
//! Spans come from anywhere: parents can be missing, several spans can have one id, and spans can be
//! their own ancestors. Each node has exactly one place, and nothing here is recursive, so a chain of a
//! million spans cannot exhaust the stack.

use std::{cmp::Reverse, collections::HashMap};

/// Maximum number of spans that a log without a span id is compared with: those that began last before it.
const CANDIDATES_MAX: usize = 256;

/// The position of an entry in the tree of its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum TracePlace {
    /// A span without a parent, or a log that no span contains.
    Root,
    /// Below the span that it names as its parent, or a log below its span.
    Child,
    /// A span whose parent is not stored: it was not received yet, lost, evicted, or left out.
    Orphan,
    /// A span that is an ancestor of itself. The first of such a circle stands at the top.
    Cycle,
}

/// A span or a log, as far as the order depends on it.
#[derive(Debug, Clone, Default)]
pub(super) struct Node<'a> {
    /// Nanoseconds since 1970.
    pub(super) start: i64,
    pub(super) end: i64,
    /// The id of a span; empty if unknown. Always empty for a log.
    pub(super) id: &'a [u8],
    /// The parent of a span, or the span of a log; empty if there is none.
    pub(super) parent: &'a [u8],
    pub(super) server: &'a str,
    pub(super) is_log: bool,
}

/// A node's place in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    /// Its index among the nodes.
    pub(super) index: usize,
    pub(super) depth: usize,
    pub(super) place: TracePlace,
}

/// Every node exactly once: parents before their children, siblings by their start.
///
/// A log whose span is not there or not known stands below the span of its server, else of any server,
/// that began last and was running.
pub(super) fn arrange(nodes: &[Node<'_>]) -> Vec<Placed> {
    let sorted = by_start(nodes);
    let parents = parents(nodes, &sorted);
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    let mut open: Vec<(usize, usize)> = Vec::new();
    for &index in sorted.iter().rev() {
        // Reversed, because the last entry of `open` is the next one.
        match parents.get(index) {
            Some(Parent::Node(parent)) => {
                if let Some(siblings) = children.get_mut(*parent) {
                    siblings.push(index);
                }
            }
            _ => open.push((index, 0)),
        }
    }
    let mut placed = Vec::with_capacity(nodes.len());
    while let Some((index, depth)) = open.pop() {
        let place = match parents.get(index) {
            Some(Parent::Node(_)) => TracePlace::Child,
            Some(Parent::Missing) => TracePlace::Orphan,
            Some(Parent::Itself) => TracePlace::Cycle,
            Some(Parent::None) | None => TracePlace::Root,
        };
        placed.push(Placed {
            index,
            depth,
            place,
        });
        let below = children.get_mut(index).map(std::mem::take);
        open.extend(below.into_iter().flatten().map(|child| (child, depth + 1)));
    }
    placed
}

/// The indexes of the nodes by start. Of nodes that start together, the one that ends last is first, and
/// logs come last.
fn by_start(nodes: &[Node<'_>]) -> Vec<usize> {
    let mut sorted: Vec<(i64, bool, Reverse<i64>, usize)> = (nodes.iter().enumerate())
        .map(|(index, node)| (node.start, node.is_log, Reverse(node.end), index))
        .collect();
    sorted.sort_unstable();
    sorted.into_iter().map(|(.., index)| index).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parent {
    None,
    Node(usize),
    Missing,
    /// Itself, over any number of other spans.
    Itself,
}

/// The parent of each node. Following them always ends.
fn parents(nodes: &[Node<'_>], sorted: &[usize]) -> Vec<Parent> {
    let spans: Vec<(usize, &Node<'_>)> = (sorted.iter())
        .filter_map(|index| Some((*index, nodes.get(*index)?)))
        .filter(|(_, node)| !node.is_log)
        .collect();
    // Of spans with one id, the first has the children.
    let mut by_id: HashMap<&[u8], usize> = HashMap::with_capacity(spans.len());
    for (index, span) in &spans {
        if !span.id.is_empty() {
            by_id.entry(span.id).or_insert(*index);
        }
    }
    let mut parents: Vec<Parent> = (nodes.iter().enumerate())
        .map(|(index, node)| match by_id.get(node.parent) {
            Some(parent) if *parent == index => Parent::Itself,
            Some(parent) => Parent::Node(*parent),
            None if node.is_log => running_at(&spans, node).map_or(Parent::None, Parent::Node),
            None if node.parent.is_empty() => Parent::None,
            None => Parent::Missing,
        })
        .collect();
    open_circles(&mut parents, sorted);
    parents
}

/// The span that a log without one is in.
fn running_at(spans: &[(usize, &Node<'_>)], log: &Node<'_>) -> Option<usize> {
    let begun = spans.partition_point(|(_, span)| span.start <= log.start);
    let mut of_any_server = None;
    for (index, span) in spans.iter().take(begun).rev().take(CANDIDATES_MAX) {
        if span.end >= log.start {
            if span.server == log.server {
                return Some(*index);
            }
            of_any_server = of_any_server.or(Some(*index));
        }
    }
    of_any_server
}

/// Makes the first node of each circle the end of it.
fn open_circles(parents: &mut [Parent], sorted: &[usize]) {
    let mut ranks = vec![0; parents.len()];
    for (rank, &index) in sorted.iter().enumerate() {
        if let Some(place) = ranks.get_mut(index) {
            *place = rank;
        }
    }
    // The number of the walk that came by; 0 for none.
    let mut walks = vec![0; parents.len()];
    for (walk, &first) in (1..).zip(sorted) {
        let mut next = Some(first);
        while let Some(at) = next
            && let Some(seen) = walks.get_mut(at)
        {
            if *seen == walk {
                let circle = std::iter::successors(Some(at), |node| {
                    parent_of(parents, *node).filter(|parent| *parent != at)
                });
                let opened = circle.min_by_key(|index| ranks.get(*index)).unwrap_or(at);
                if let Some(parent) = parents.get_mut(opened) {
                    *parent = Parent::Itself;
                }
            }
            if *seen != 0 {
                break;
            }
            *seen = walk;
            next = parent_of(parents, at);
        }
    }
}

fn parent_of(parents: &[Parent], index: usize) -> Option<usize> {
    match parents.get(index) {
        Some(Parent::Node(parent)) => Some(*parent),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A span: its id, its parent and its times, or a log if the id is `None`.
    #[derive(Debug, Clone, Copy)]
    struct Made(Option<u8>, u8, i64, i64);

    /// Ids are arrays of one byte, and 0 is none.
    fn id(id: &u8) -> &[u8] {
        if *id == 0 {
            &[]
        } else {
            std::slice::from_ref(id)
        }
    }

    fn nodes(made: &[Made]) -> Vec<Node<'_>> {
        made.iter()
            .map(|Made(own, parent, start, end)| Node {
                start: *start,
                end: *end,
                id: own.as_ref().map_or(&[], id),
                parent: id(parent),
                server: "github",
                is_log: own.is_none(),
            })
            .collect()
    }

    /// Each place as the index of the node, indented.
    fn shown(made: &[Made]) -> Vec<String> {
        let placed = arrange(&nodes(made));
        (placed.iter())
            .map(|placed| {
                let mark = match placed.place {
                    TracePlace::Root => "",
                    TracePlace::Child => "-",
                    TracePlace::Orphan => "?",
                    TracePlace::Cycle => "@",
                };
                format!("{}{mark}{}", " ".repeat(placed.depth), placed.index)
            })
            .collect()
    }

    #[test]
    fn children_stand_below_their_parents_by_start() {
        let span = |own, parent, start, end| Made(Some(own), parent, start, end);
        let log = |span, at| Made(None, span, at, at);
        for (made, expected) in [
            (vec![], vec![]),
            (
                vec![
                    span(3, 1, 5, 6),
                    span(2, 1, 2, 4),
                    span(1, 0, 1, 9),
                    span(4, 2, 3, 4),
                ],
                vec!["2", " -1", "  -3", " -0"],
            ),
            // The parent 9 is not there.
            (
                vec![span(1, 9, 5, 6), span(2, 0, 1, 2), span(3, 1, 5, 6)],
                vec!["1", "?0", " -2"],
            ),
            // Itself, and a circle of three that something that began earlier hangs on.
            (
                vec![
                    span(1, 1, 5, 6),
                    span(2, 4, 8, 9),
                    span(3, 2, 6, 9),
                    span(4, 3, 7, 9),
                    span(5, 4, 1, 9),
                ],
                vec!["@0", "@2", " -3", "  -4", "  -1"],
            ),
            // Of two spans with one id, the first has the children.
            (
                vec![span(1, 0, 5, 6), span(1, 0, 4, 6), span(2, 1, 5, 6)],
                vec!["1", " -2", "0"],
            ),
            // Logs of a span, of one that is not there, and without one.
            (
                vec![
                    span(1, 0, 1, 9),
                    span(2, 1, 3, 5),
                    log(1, 2),
                    log(7, 4),
                    log(0, 7),
                    log(0, 12),
                ],
                vec!["0", " -2", " -1", "  -3", " -4", "5"],
            ),
        ] {
            assert_eq!(shown(&made), expected, "{made:?}");
        }
    }

    #[test]
    fn a_long_chain_of_spans_has_an_order() {
        let ids: Vec<[u8; 4]> = (1..=200_000_u32).map(u32::to_be_bytes).collect();
        let mut nodes: Vec<Node<'_>> = (0..)
            .zip(&ids)
            .map(|(start, id)| Node {
                start,
                id,
                ..Node::default()
            })
            .collect();
        for (node, parent) in nodes.iter_mut().skip(1).zip(&ids) {
            node.parent = parent;
        }
        let last = arrange(&nodes).pop().map(|placed| placed.depth);
        assert_eq!(last, Some(199_999));
        // As one circle.
        if let (Some(first), Some(last)) = (nodes.first_mut(), ids.last()) {
            first.parent = last;
        }
        let placed = arrange(&nodes);
        assert_eq!(placed.len(), 200_000);
        assert_eq!(
            placed.first().map(|placed| placed.place),
            Some(TracePlace::Cycle)
        );
    }

    proptest! {
        /// Few ids, so that orphans, circles and equal ids are common.
        #[test]
        fn every_node_has_one_place_below_its_parent(
            made in proptest::collection::vec(
                (proptest::option::weighted(0.8, 0..12_u8), 0..12_u8, 0..9_i64, 0..5_i64)
                    .prop_map(|(own, parent, start, took)| Made(own, parent, start, start + took)),
                0..40,
            )
        ) {
            let nodes = nodes(&made);
            let placed = arrange(&nodes);
            let mut indexes: Vec<usize> = placed.iter().map(|placed| placed.index).collect();
            indexes.sort_unstable();
            prop_assert_eq!(indexes, (0..made.len()).collect::<Vec<_>>());
            let mut above: Vec<&Placed> = Vec::new();
            for placed in &placed {
                prop_assert!(placed.depth <= above.len());
                above.truncate(placed.depth);
                let node = &nodes[placed.index];
                if let Some(parent) = above.last() {
                    prop_assert_eq!(placed.place, TracePlace::Child);
                    let parent = &nodes[parent.index];
                    prop_assert!(!parent.is_log);
                    let is_known = nodes.iter().any(|other| !other.is_log && other.id == node.parent);
                    let is_said = !node.parent.is_empty() && is_known;
                    if is_said || !node.is_log {
                        prop_assert_eq!(parent.id, node.parent);
                    } else {
                        prop_assert!(parent.start <= node.start && node.start <= parent.end);
                    }
                } else {
                    let has_parent = !node.parent.is_empty()
                        && nodes.iter().any(|other| !other.is_log && other.id == node.parent);
                    match placed.place {
                        TracePlace::Root => prop_assert!(node.is_log || node.parent.is_empty()),
                        TracePlace::Orphan => prop_assert!(!node.is_log && !has_parent),
                        TracePlace::Cycle => prop_assert!(has_parent),
                        TracePlace::Child => prop_assert!(false, "a child at the top"),
                    }
                }
                above.push(placed);
            }
            // Siblings by start.
            for depth in 0..=placed.iter().map(|placed| placed.depth).max().unwrap_or(0) {
                for siblings in placed.split(|placed| placed.depth < depth) {
                    let starts: Vec<i64> = siblings
                        .iter()
                        .filter(|placed| placed.depth == depth)
                        .map(|placed| nodes[placed.index].start)
                        .collect();
                    prop_assert!(starts.is_sorted());
                }
            }
        }
    }
}
