package toolkit.app;

import android.content.Context;
import android.graphics.Bitmap;
import android.graphics.Canvas;
import android.graphics.Color;
import android.graphics.Paint;
import android.graphics.RectF;
import android.os.Build;
import android.util.AttributeSet;
import android.view.SurfaceHolder;
import android.view.SurfaceView;
import java.util.Locale;

/** Shows the picture that the network saw, so that boxes and picture never part. */
public final class PictureView extends SurfaceView {
    private final Paint smooth = new Paint(Paint.FILTER_BITMAP_FLAG);
    private final Paint line = new Paint(Paint.ANTI_ALIAS_FLAG);
    private final Paint label = new Paint(Paint.ANTI_ALIAS_FLAG);
    private Bitmap bitmap;

    public PictureView(Context context, AttributeSet attributes) {
        super(context, attributes);
        float density = context.getResources().getDisplayMetrics().density;
        line.setStyle(Paint.Style.STROKE);
        line.setStrokeWidth(2 * density);
        label.setTextSize(14 * density);
    }

    /** Draws a picture with what a model found in it. Runs on any one thread. */
    void show(Picture picture, float[] found, Model model) {
        if (bitmap == null || bitmap.getWidth() != picture.width || bitmap.getHeight() != picture.height) {
            bitmap = Bitmap.createBitmap(picture.width, picture.height, Bitmap.Config.ARGB_8888);
        }
        bitmap.copyPixelsFromBuffer(picture.rgba.duplicate()); // whose position it moves
        SurfaceHolder holder = getHolder();
        Canvas canvas = Build.VERSION.SDK_INT >= 26 ? holder.lockHardwareCanvas() : holder.lockCanvas();
        if (canvas == null) {
            return; // the screen is off or the app in the background
        }
        try {
            draw(canvas, picture, found, model);
        } finally {
            holder.unlockCanvasAndPost(canvas);
        }
    }

    private void draw(Canvas canvas, Picture picture, float[] found, Model model) {
        float scale = Math.min(
                (float) canvas.getWidth() / picture.width, (float) canvas.getHeight() / picture.height);
        float left = (canvas.getWidth() - scale * picture.width) / 2;
        float top = (canvas.getHeight() - scale * picture.height) / 2;
        canvas.drawColor(Color.BLACK);
        RectF area = new RectF(left, top, left + scale * picture.width, top + scale * picture.height);
        canvas.drawBitmap(bitmap, null, area, smooth);
        canvas.clipRect(area);
        float radius = line.getStrokeWidth() / 2;
        for (int i = 0; i < found.length; i += model.rowLength()) {
            int index = (int) found[i + 5];
            // far apart on the wheel of colours for neighbouring classes
            line.setColor(Color.HSVToColor(new float[] {index * 137.5f % 360, 0.75f, 1}));
            float x = left + scale * found[i];
            float y = top + scale * found[i + 1];
            canvas.drawRect(x, y, left + scale * found[i + 2], top + scale * found[i + 3], line);
            String text = String.format(Locale.ROOT, "%s %.2f", model.classes[index], found[i + 4]);
            float height = label.getTextSize() * 1.3f;
            float above = Math.max(y - height, top);
            label.setColor(line.getColor());
            canvas.drawRect(x, above, x + label.measureText(text), above + height, label);
            for (int k = i + 6; k < i + model.rowLength(); k += 2) { // NaN draws nothing
                canvas.drawCircle(left + scale * found[k], top + scale * found[k + 1], radius, label);
            }
            label.setColor(Color.BLACK);
            canvas.drawText(text, x, above + label.getTextSize(), label);
        }
    }
}
