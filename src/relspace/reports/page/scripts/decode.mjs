// The report's data, as it stands in the page, to typed arrays.

const TYPES = { int8: Int8Array, uint8: Uint8Array };

/** Unpack an array that Python packed: gzip, in base64. */
export async function unpack({ type, shape, gzip }) {
  const text = atob(gzip);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const values = new TYPES[type](await new Response(stream).arrayBuffer());
  return { values, shape };
}

/** Unpack every layer of every model; what is small stays as it is. */
export async function unpackReport(report) {
  const unpackAll = async (packed) =>
    Object.fromEntries(
      await Promise.all(
        Object.entries(packed).map(async ([key, one]) => [key, (await unpack(one)).values]),
      ),
    );
  const unpackLayer = async (layer) => {
    const { values, shape } = await unpack(layer.vectors);
    const [nImages, rows, columns] = shape;
    return {
      name: layer.name,
      vectors: values,
      nImages,
      rows,
      columns,
      colors: await unpackAll(layer.colors),
      segments: await unpackAll(layer.segments),
      boxes: layer.boxes,
      averaged_from: layer.averaged_from,
    };
  };
  const models = await Promise.all(
    report.models.map(async (model) => ({
      ...model,
      layers: await Promise.all(model.layers.map(unpackLayer)),
    })),
  );
  return { ...report, models, scales: Float32Array.from(report.scales) };
}
