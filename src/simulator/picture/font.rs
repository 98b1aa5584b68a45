//! Letters of three by five dots, drawn large.

/// Rows from top to bottom, three bits each, the left dot being the highest bit.
fn glyph(c: char) -> [u8; 5] {
    match c.to_ascii_uppercase() {
        'A' => [2, 5, 7, 5, 5],
        'B' => [6, 5, 6, 5, 6],
        'C' => [3, 4, 4, 4, 3],
        'D' => [6, 5, 5, 5, 6],
        'E' => [7, 4, 6, 4, 7],
        'F' => [7, 4, 6, 4, 4],
        'G' => [3, 4, 5, 5, 3],
        'H' => [5, 5, 7, 5, 5],
        'I' => [7, 2, 2, 2, 7],
        'J' => [1, 1, 1, 5, 2],
        'K' => [5, 5, 6, 5, 5],
        'L' => [4, 4, 4, 4, 7],
        'M' => [5, 7, 7, 5, 5],
        'N' => [6, 5, 5, 5, 5],
        'O' => [2, 5, 5, 5, 2],
        'P' => [6, 5, 6, 4, 4],
        'Q' => [2, 5, 5, 6, 3],
        'R' => [6, 5, 6, 5, 5],
        'S' => [3, 4, 2, 1, 6],
        'T' => [7, 2, 2, 2, 2],
        'U' => [5, 5, 5, 5, 7],
        'V' => [5, 5, 5, 5, 2],
        'W' => [5, 5, 7, 7, 5],
        'X' => [5, 5, 2, 5, 5],
        'Y' => [5, 5, 2, 2, 2],
        'Z' => [7, 1, 2, 4, 7],
        '0' => [7, 5, 5, 5, 7],
        '1' => [2, 6, 2, 2, 7],
        '2' => [6, 1, 2, 4, 7],
        '3' => [6, 1, 2, 1, 6],
        '4' => [5, 5, 7, 1, 1],
        '5' => [7, 4, 6, 1, 6],
        '6' => [3, 4, 7, 5, 7],
        '7' => [7, 1, 2, 2, 2],
        '8' => [7, 5, 7, 5, 7],
        '9' => [7, 5, 7, 1, 6],
        ' ' => [0; 5],
        '.' => [0, 0, 0, 0, 2],
        ',' => [0, 0, 0, 2, 4],
        ':' => [0, 2, 0, 2, 0],
        ';' => [0, 2, 0, 2, 4],
        '!' => [2, 2, 2, 0, 2],
        '?' => [6, 1, 2, 0, 2],
        '-' => [0, 0, 7, 0, 0],
        '+' => [0, 2, 7, 2, 0],
        '_' => [0, 0, 0, 0, 7],
        '/' => [1, 1, 2, 4, 4],
        '(' | '[' | '{' => [1, 2, 2, 2, 1],
        ')' | ']' | '}' => [4, 2, 2, 2, 4],
        '\'' | '"' => [2, 2, 0, 0, 0],
        '=' => [0, 7, 0, 7, 0],
        '%' => [5, 1, 2, 4, 5],
        '*' => [5, 2, 7, 2, 5],
        '#' => [5, 7, 5, 7, 5],
        _ => [7, 7, 7, 7, 7],
    }
}

/// Draws wrapped lines of white letters with a dark shadow, as many as fit.
pub fn draw(rgb: &mut [u8], width: u32, height: u32, text: &str) {
    let scale = (width.min(height) / 128).clamp(1, 8);
    let (step, rise, margin) = (4 * scale, 7 * scale, 4 * scale);
    let columns = (width.saturating_sub(2 * margin) / step) as usize;
    if columns == 0 {
        return;
    }
    let mut row = margin;
    for line in lines(text, columns) {
        if row + rise > height {
            return;
        }
        for (index, c) in line.chars().enumerate() {
            let left = margin + u32::try_from(index).unwrap_or(0) * step;
            for (offset, colour) in [(1, 0), (0, 255)] {
                dots(
                    rgb,
                    width,
                    height,
                    glyph(c),
                    (
                        left + offset * scale.div_ceil(2),
                        row + offset * scale.div_ceil(2),
                    ),
                    scale,
                    colour,
                );
            }
        }
        row += rise;
    }
}

/// Breaks between words where possible.
fn lines(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines().take(64) {
        let mut line = String::new();
        for word in paragraph.split_whitespace().take(512) {
            let mut letters: Vec<char> = word.chars().collect();
            if !line.is_empty() && line.chars().count() + 1 + letters.len() > columns {
                lines.push(std::mem::take(&mut line));
            }
            while letters.len() > columns {
                lines.push(letters.drain(..columns).collect());
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.extend(letters);
        }
        lines.push(line);
    }
    lines
}

fn dots(
    rgb: &mut [u8],
    width: u32,
    height: u32,
    rows: [u8; 5],
    (left, top): (u32, u32),
    scale: u32,
    colour: u8,
) {
    for (down, bits) in (0u32..).zip(rows) {
        for across in 0..3 {
            if bits & (4 >> across) == 0 {
                continue;
            }
            for y in (top + down * scale..top + (down + 1) * scale).take_while(|y| *y < height) {
                let from = (left + across * scale).min(width);
                let to = (from + scale).min(width);
                let start = (y as usize * width as usize + from as usize) * 3;
                if let Some(span) = rgb.get_mut(start..start + (to - from) as usize * 3) {
                    span.fill(colour);
                }
            }
        }
    }
}
