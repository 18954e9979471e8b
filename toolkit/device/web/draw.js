// A picture with boxes, names and points on a canvas.

// Told apart by people who see few colours, too; after Okabe and Ito.
const COLOURS = ["#e69f00", "#56b4e9", "#00b386", "#f0e442", "#4f9de0", "#ff7043", "#e58fc0", "#ffffff"];

export function colourOf(label) {
  return COLOURS[label % COLOURS.length];
}

// `source`: ImageBitmap, video or canvas; `points`: of each object, or null.
export function draw(canvas, source, width, height, objects, classes, points) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.drawImage(source, 0, 0, width, height);
  // as wide on the screen whatever the picture's size is
  const pixel = Math.max(1, width / Math.max(1, canvas.clientWidth));
  const line = 2.5 * pixel;
  const size = 15 * pixel;
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  objects.forEach((d, i) => {
    const colour = colourOf(d.label);
    const [x, y, w, h] = [d.x1 * width, d.y1 * height, (d.x2 - d.x1) * width, (d.y2 - d.y1) * height];
    context.lineWidth = line;
    context.strokeStyle = colour;
    context.strokeRect(x, y, w, h);
    if (points?.[i]) {
      context.fillStyle = colour;
      for (const [px, py] of points[i]) {
        context.beginPath();
        context.arc(px, py, Math.max(0.8 * pixel, w / 90), 0, 7);
        context.fill();
      }
    } else {
      const text = `${classes[d.label]} ${d.score.toFixed(2)}`;
      const wide = context.measureText(text).width + size * 0.6;
      const top = Math.min(Math.max(0, y - size * 1.3), height - size * 1.3);
      const left = Math.min(Math.max(0, x - line / 2), Math.max(0, width - wide));
      context.fillStyle = colour;
      context.fillRect(left, top, wide, size * 1.3);
      context.fillStyle = "#10141a";
      context.fillText(text, left + size * 0.3, top + size * 0.68);
    }
  });
}
