//! The cheapest one-to-one assignment, by shortest augmenting paths (Crouse, 2016, <https://doi.org/10.1109/TAES.2016.140952>;
//! Jonker and Volgenant, 1987). Ties fall as in scipy's function of that name, which mmdet calls.

use candle_core::{Result, bail};

/// Pairs (row, column) of the cheapest assignment of the smaller side, rows ascending. `cost` is row-major
/// `[rows, columns]`; plus infinity forbids a pair.
pub fn linear_sum_assignment(cost: &[f64], rows: usize, columns: usize) -> Result<Vec<(usize, usize)>> {
    if cost.len() != rows * columns {
        bail!("linear_sum_assignment: {} costs for {rows} x {columns}", cost.len());
    }
    if cost.iter().any(|c| c.is_nan() || *c == f64::NEG_INFINITY) {
        bail!("linear_sum_assignment: a cost is not a number or minus infinity");
    }
    if columns < rows {
        let transposed: Vec<f64> = (0..columns * rows).map(|i| cost[i % rows * columns + i / rows]).collect();
        let mut pairs: Vec<(usize, usize)> = solve(&transposed, columns, rows)?.into_iter().zip(0..).collect();
        pairs.sort_unstable();
        return Ok(pairs);
    }
    Ok(solve(cost, rows, columns)?.into_iter().enumerate().collect())
}

/// The column of each row, where there are at least as many columns.
fn solve(cost: &[f64], rows: usize, columns: usize) -> Result<Vec<usize>> {
    const NONE: usize = usize::MAX;
    let (mut u, mut v) = (vec![0f64; rows], vec![0f64; columns]);
    let (mut col_of, mut row_of) = (vec![NONE; rows], vec![NONE; columns]);
    let (mut shortest, mut path) = (vec![0f64; columns], vec![NONE; columns]);
    for start in 0..rows {
        // Grow the tree of shortest paths from `start` until it reaches a free column.
        shortest.fill(f64::INFINITY);
        let (mut rows_seen, mut cols_seen) = (vec![false; rows], vec![false; columns]);
        let mut remaining: Vec<usize> = (0..columns).rev().collect();
        let (mut reached, mut row) = (0f64, start);
        let sink = loop {
            rows_seen[row] = true;
            let (mut lowest, mut at) = (f64::INFINITY, NONE);
            for (place, &col) in remaining.iter().enumerate() {
                let through = reached + cost[row * columns + col] - u[row] - v[col];
                if through < shortest[col] {
                    path[col] = row;
                    shortest[col] = through;
                }
                // Among equals a free column ends the search.
                if shortest[col] < lowest || (shortest[col] == lowest && row_of[col] == NONE) {
                    (lowest, at) = (shortest[col], place);
                }
            }
            if lowest == f64::INFINITY {
                bail!("linear_sum_assignment: the costs allow no assignment");
            }
            reached = lowest;
            let col = remaining.swap_remove(at);
            cols_seen[col] = true;
            if row_of[col] == NONE {
                break col;
            }
            row = row_of[col];
        };
        u[start] += reached;
        for i in (0..rows).filter(|i| rows_seen[*i] && *i != start) {
            u[i] += reached - shortest[col_of[i]];
        }
        for j in (0..columns).filter(|j| cols_seen[*j]) {
            v[j] -= reached - shortest[j];
        }
        // Turn the path round.
        let mut col = sink;
        loop {
            let row = path[col];
            row_of[col] = row;
            std::mem::swap(&mut col_of[row], &mut col);
            if row == start {
                break;
            }
        }
    }
    Ok(col_of)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The cheapest total over all ways, for small matrices.
    fn cheapest(cost: &[f64], rows: usize, columns: usize, row: usize, taken: u32) -> f64 {
        if row == rows {
            return 0.0;
        }
        let free = (0..columns).filter(|c| taken >> c & 1 == 0);
        let with = |c: usize| cost[row * columns + c] + cheapest(cost, rows, columns, row + 1, taken | 1 << c);
        free.map(with).fold(f64::INFINITY, f64::min)
    }

    proptest! {
        #[test]
        fn no_assignment_is_cheaper(rows in 1usize..5, extra in 0usize..3, seed in prop::collection::vec(-9i32..9, 35)) {
            let columns = rows + extra;
            let cost: Vec<f64> = seed[..rows * columns].iter().map(|v| f64::from(*v)).collect();
            let pairs = linear_sum_assignment(&cost, rows, columns).unwrap();
            let total: f64 = pairs.iter().map(|(r, c)| cost[r * columns + c]).sum();
            prop_assert_eq!(total, cheapest(&cost, rows, columns, 0, 0));
            let turned: Vec<f64> = (0..rows * columns).map(|i| cost[i % rows * columns + i / rows]).collect();
            let pairs = linear_sum_assignment(&turned, columns, rows).unwrap();
            prop_assert!(pairs.is_sorted() && pairs.len() == rows);
            prop_assert_eq!(pairs.iter().map(|(r, c)| turned[r * rows + c]).sum::<f64>(), total);
        }
    }

    // scipy.optimize.linear_sum_assignment of the same lists
    #[test]
    fn ties_fall_as_scipys() {
        let run = |cost: &[f64], rows, columns| linear_sum_assignment(cost, rows, columns).unwrap();
        assert_eq!(run(&[1.0; 6], 2, 3), [(0, 0), (1, 1)]);
        assert_eq!(run(&[1.0; 6], 3, 2), [(0, 0), (1, 1)]);
        assert_eq!(run(&[4.0, 1.0, 3.0, 2.0, 0.0, 5.0, 3.0, 2.0, 2.0], 3, 3), [(0, 1), (1, 0), (2, 2)]);
        assert_eq!(run(&[1.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 1.0], 3, 3), TIED);
        assert!(run(&[], 0, 3).is_empty() && run(&[], 3, 0).is_empty());
        assert!(linear_sum_assignment(&[f64::NAN], 1, 1).is_err());
        assert!(linear_sum_assignment(&[f64::INFINITY], 1, 1).is_err());
    }

    const TIED: [(usize, usize); 3] = [(0, 0), (1, 2), (2, 1)];
}
