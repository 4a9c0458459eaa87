//! Which nodes of a large trace are on the page.
//!
//! The nodes nearest to the top are shown first, level by level, so that a page of a trace of 50,000 spans shows its
//! shape, and each place where something is left out has a link to it.

use std::{collections::VecDeque, fmt, ops::Range, str::FromStr};

/// Maximum number of nodes on a page.
pub(super) const NODES_MAX: usize = 300;
/// Maximum number of nodes below one node, if not all nodes fit.
const SIBLINGS_MAX: usize = 60;
/// Maximum number of levels. Browsers cut elements that are nested much deeper.
pub(super) const LEVELS_MAX: usize = 40;

/// A node, as far as its place matters: see [`TraceNode`](gridctl_telemetry::query::TraceNode).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) depth: usize,
    /// The number of nodes below it, which follow it directly.
    pub(super) below: usize,
}

/// The part of a trace that is asked for: a node with what is below it, from one of its children on. Nodes are
/// named by the numbers of their records, which stay the same when records are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    pub(super) parent: Option<u64>,
    pub(super) first: Option<u64>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |number: Option<u64>| number.map(|number| format!("{number:x}"));
        let (parent, first) = (part(self.parent), part(self.first));
        write!(
            f,
            "{}.{}",
            parent.unwrap_or_default(),
            first.unwrap_or_default()
        )
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        let part = |digits: &str| {
            let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            match digits {
                "" => Ok(None),
                digits if is_hex => u64::from_str_radix(digits, 16).map(Some).map_err(|_| ()),
                _ => Err(()),
            }
        };
        let place = text
            .split_once('.')
            .map(|(parent, first)| (part(parent), part(first)));
        match place {
            Some((Ok(parent), Ok(first))) => Ok(Place { parent, first }),
            _ => Err("it is no place in a trace".to_owned()),
        }
    }
}

/// The nodes that are shown.
#[derive(Debug)]
pub(super) struct Visible<'a> {
    shapes: &'a [Shape],
    is_shown: Vec<bool>,
    /// The node above the others, if the page is about a part of the trace.
    pub(super) top: Option<usize>,
    /// The first of the nodes below `top`, or of those at the top of the trace.
    pub(super) first: usize,
    /// After the last of them.
    pub(super) end: usize,
}

/// What stands at a place of the page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// The node with this index.
    Node(usize),
    /// This many nodes that are left out, of which the first has this index.
    More { first: usize, nodes: usize },
}

impl<'a> Visible<'a> {
    /// Chooses the nodes below `top`, or of the whole trace, from the child `first` on.
    pub(super) fn choose(
        shapes: &'a [Shape],
        top: Option<usize>,
        first: Option<usize>,
    ) -> Visible<'a> {
        let whole = match top.and_then(|top| Some((top, shapes.get(top)?))) {
            Some((top, shape)) => top + 1..(top + 1 + shape.below).min(shapes.len()),
            None => 0..shapes.len(),
        };
        let first = first
            .filter(|first| whole.contains(first))
            .unwrap_or(whole.start);
        let mut visible = Visible {
            shapes,
            is_shown: vec![false; shapes.len()],
            top,
            first,
            end: whole.end,
        };
        visible.fill();
        visible
    }

    fn fill(&mut self) {
        let siblings_max = if self.end - self.first <= NODES_MAX {
            usize::MAX
        } else {
            SIBLINGS_MAX
        };
        let mut left = NODES_MAX;
        // At the top of the page there is no need to leave room for others.
        let mut open = VecDeque::from([(self.first..self.end, 0, NODES_MAX)]);
        while let Some((range, level, siblings)) = open.pop_front() {
            let end = range.end;
            let children: Vec<usize> = self.siblings(range).take(siblings.min(left)).collect();
            for child in children {
                left -= 1;
                if let Some(is_shown) = self.is_shown.get_mut(child) {
                    *is_shown = true;
                }
                let below = self.below(child);
                if !below.is_empty() && level + 1 < LEVELS_MAX {
                    open.push_back((below.start..below.end.min(end), level + 1, siblings_max));
                }
            }
        }
    }

    /// The nodes of the highest level in a range.
    fn siblings(&self, range: Range<usize>) -> impl Iterator<Item = usize> {
        let shapes = self.shapes;
        let mut next = range.start;
        std::iter::from_fn(move || {
            let node = next;
            let shape = shapes.get(node).filter(|_| node < range.end)?;
            next = node + 1 + shape.below;
            Some(node)
        })
    }

    /// The nodes below a node.
    pub(super) fn below(&self, node: usize) -> Range<usize> {
        let below = self.shapes.get(node).map_or(0, |shape| shape.below);
        node + 1..(node + 1 + below).min(self.shapes.len())
    }

    pub(super) fn is_shown(&self, node: usize) -> bool {
        self.top == Some(node) || self.is_shown.get(node).copied().unwrap_or(false)
    }

    /// What stands in a range of siblings: the nodes that are shown, and what is left out after them.
    pub(super) fn items(&self, range: Range<usize>) -> Vec<Item> {
        let mut items = Vec::new();
        for node in self.siblings(range.clone()) {
            if !self.is_shown(node) {
                items.push(Item::More {
                    first: node,
                    nodes: range.end - node,
                });
                break;
            }
            items.push(Item::Node(node));
        }
        items
    }

    /// The nodes above a node, the nearest last.
    pub(super) fn above(&self, node: usize) -> Vec<usize> {
        let mut above = Vec::new();
        let mut depth = self.shapes.get(node).map_or(0, |shape| shape.depth);
        for (index, shape) in self.shapes.iter().enumerate().take(node).rev() {
            if depth == 0 {
                break;
            }
            if shape.depth < depth {
                depth = shape.depth;
                above.push(index);
            }
        }
        above.reverse();
        above
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shapes from the depths of nodes.
    fn shapes(depths: &[usize]) -> Vec<Shape> {
        let below = |index: usize, depth: usize| {
            let after = depths.iter().skip(index + 1);
            after.take_while(|after| **after > depth).count()
        };
        let depths = depths.iter().enumerate();
        depths
            .map(|(index, depth)| Shape {
                depth: *depth,
                below: below(index, *depth),
            })
            .collect()
    }

    fn shown(visible: &Visible<'_>) -> usize {
        visible
            .is_shown
            .iter()
            .filter(|is_shown| **is_shown)
            .count()
    }

    #[test]
    fn a_small_trace_is_shown_whole() {
        let shapes = shapes(&[0, 1, 2, 1, 0]);
        let visible = Visible::choose(&shapes, None, None);
        assert_eq!(shown(&visible), 5);
        assert_eq!(visible.items(0..5), [Item::Node(0), Item::Node(4)]);
        assert_eq!(
            visible.items(visible.below(0)),
            [Item::Node(1), Item::Node(3)]
        );
        assert_eq!(visible.above(2), [0, 1]);
        assert_eq!(visible.above(4), [0; 0]);
        // Many siblings are no reason to leave some out.
        let wide = [vec![0], vec![1; NODES_MAX - 1]].concat();
        let wide = self::shapes(&wide);
        assert_eq!(shown(&Visible::choose(&wide, None, None)), NODES_MAX);
        let none = Visible::choose(&[], None, None);
        assert_eq!((shown(&none), none.items(0..0).len()), (0, 0));
    }

    #[test]
    fn a_large_trace_is_shown_level_by_level_with_links_to_the_rest() {
        // A root with 500 children, each with 99 below it.
        let mut shapes = vec![Shape {
            depth: 0,
            below: 50_000,
        }];
        for _ in 0..500 {
            shapes.push(Shape {
                depth: 1,
                below: 99,
            });
            shapes.extend(vec![Shape { depth: 2, below: 0 }; 99]);
        }
        let visible = Visible::choose(&shapes, None, None);
        assert_eq!(shown(&visible), NODES_MAX);
        let children = visible.items(visible.below(0));
        assert_eq!(children.len(), SIBLINGS_MAX + 1);
        let first = 1 + SIBLINGS_MAX * 100;
        assert_eq!(
            children.last(),
            Some(&Item::More {
                first,
                nodes: 50_001 - first
            })
        );
        let below = visible.items(visible.below(1));
        assert_eq!(below.len(), SIBLINGS_MAX + 1);
        assert_eq!(
            below.last(),
            Some(&Item::More {
                first: 62,
                nodes: 39
            })
        );

        // The rest of the children, and then the rest of one of them.
        let rest = Visible::choose(&shapes, Some(0), Some(first));
        assert_eq!((rest.first, rest.end), (first, 50_001));
        assert!(rest.is_shown(0) && !rest.is_shown(1) && rest.is_shown(first));
        let last = Visible::choose(&shapes, Some(1), Some(62));
        assert_eq!(shown(&last), 39);
        // A child of another node is no child of this one.
        assert_eq!(Visible::choose(&shapes, Some(1), Some(500)).first, 2);
        assert_eq!(Visible::choose(&shapes, Some(60_000), None).first, 0);
    }

    #[test]
    fn a_deep_trace_is_cut_before_a_browser_cuts_it() {
        let shapes: Vec<Shape> = (0..50_000)
            .map(|depth| Shape {
                depth,
                below: 49_999 - depth,
            })
            .collect();
        let visible = Visible::choose(&shapes, None, None);
        assert_eq!(shown(&visible), LEVELS_MAX);
        let last = LEVELS_MAX - 1;
        assert_eq!(
            visible.items(visible.below(last)),
            [Item::More {
                first: LEVELS_MAX,
                nodes: 50_000 - LEVELS_MAX
            }]
        );
        let deep = Visible::choose(&shapes, Some(49_000), None);
        assert!(deep.is_shown(49_000 + LEVELS_MAX));
        assert_eq!(deep.above(49_000).len(), 49_000);
    }

    #[test]
    fn places_come_back() {
        for (parent, first) in [
            (None, None),
            (Some(0), None),
            (None, Some(7)),
            (Some(u64::MAX), Some(1)),
        ] {
            let place = Place { parent, first };
            assert_eq!(place.to_string().parse::<Place>(), Ok(place));
        }
        for text in ["", "1", "x.", ".y", "+1.", "10000000000000000.", "1.2.3"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
